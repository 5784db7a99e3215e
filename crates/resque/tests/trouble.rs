//! Jobs that fail, panic, hang, are huge or are none: each ends readably, and the worker lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::time::{Duration, Instant};

use common::{Running, Server, all_done, job, next, quick, until};
use resque::{FailedEntry, Gate, Queue, WorkerConfig, work};
use tokio_util::sync::CancellationToken;

async fn failures(queue: &Queue, count: usize) -> Vec<FailedEntry> {
    until("the failures", async || {
        queue.failed_count().await.unwrap() == count
    })
    .await;
    queue.failed(0, count).await.unwrap()
}

#[tokio::test]
async fn a_job_that_is_not_json_is_kept_in_failed() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    let bad: [&[u8]; 9] = [
        b"not json",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b"",
        b"\"\\ud800\"",
        b"{\"class\":\"C\",\"args\":[1e400]}",
        b"\xff\xfe{",
    ];
    for element in bad {
        queue.push("q", element).await.unwrap();
    }
    queue.push("q", &job("C", 1)).await.unwrap();
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 1), "the worker lives");
    let entries = failures(&queue, bad.len()).await;
    for element in bad {
        let text = String::from_utf8_lossy(element);
        let kept = entries.iter().any(|entry| {
            let payload: serde_json::Value = serde_json::from_slice(&entry.payload).unwrap();
            payload["class"] == "(unparseable)" && payload["args"][0] == text.as_ref()
        });
        assert!(kept, "{text}");
    }
    assert!(
        entries[0].error.contains("not a Resque job"),
        "{}",
        entries[0].error
    );
    assert!(
        entries
            .iter()
            .any(|e| e.payload.ends_with(br#"{"hex":"fffe7b"}]}"#))
    );
}

#[tokio::test]
async fn a_panic_fails_the_job_and_not_the_worker() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("panic", 1)).await.unwrap();
    let entry = &failures(&queue, 1).await[0];
    assert_eq!(
        (entry.exception.as_str(), entry.error.as_str()),
        ("Resque::Panic", "it fell over")
    );
    assert_eq!(entry.payload, job("panic", 1));
    queue.push("q", &job("C", 2)).await.unwrap();
    next(&mut worker.jobs).await;
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 2));
}

#[tokio::test]
async fn a_job_that_hangs_is_stopped_at_its_limit() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = WorkerConfig {
        job_timeout: Duration::from_millis(100),
        slots: 1,
        ..quick(&["q"])
    };
    let mut worker = Running::start(&queue, config);
    queue.push("q", &job("hang", 1)).await.unwrap();
    queue.push("q", &job("C", 2)).await.unwrap();
    next(&mut worker.jobs).await;
    assert_eq!(
        next(&mut worker.jobs).await.raw,
        job("C", 2),
        "the slot is free again"
    );
    let entry = &failures(&queue, 1).await[0];
    assert!(entry.error.contains("100ms"), "{}", entry.error);
}

#[tokio::test]
async fn a_failure_shows_what_it_is_told_to_show() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("fail_as", 1)).await.unwrap();
    let entry = &failures(&queue, 1).await[0];
    assert_eq!(entry.payload, br#"{"class":"fail_as","args":["other"]}"#);
    assert_eq!(entry.queue, "q");
    assert!(entry.worker.ends_with(":q"), "{}", entry.worker);
    all_done(&server, &queue, &["q"]).await;
    assert_eq!(queue.stats().await.unwrap(), (1, 1));
    worker.stop().await;
}

#[tokio::test]
async fn the_list_of_failures_is_bounded() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = WorkerConfig {
        failed_limit: 10,
        slots: 1,
        ..quick(&["q"])
    };
    let _worker = Running::start(&queue, config);
    for n in 0..25 {
        queue.push("q", &job("fail", n)).await.unwrap();
    }
    all_done(&server, &queue, &["q"]).await;
    let entries = queue.failed(0, 100).await.unwrap();
    assert_eq!(entries.len(), 10);
    assert_eq!(entries[9].payload, job("fail", 24), "the newest are kept");
}

#[tokio::test]
async fn a_huge_payload_is_a_job_like_any_other() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    let big = resque::payload("fail", &["x".repeat(64 * 1024 * 1024).into()]);
    queue.push("q", &big).await.unwrap();
    assert!(next(&mut worker.jobs).await.raw == big, "the bytes are the same");
    let entry = &failures(&queue, 1).await[0];
    assert!(entry.payload == big, "the bytes are kept");
}

#[tokio::test]
async fn a_queue_of_another_kind_hinders_no_other() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let _: usize = server.raw("ZADD", &[b"{resque}:queue:odd", b"1", b"x"]).await;
    let mut worker = Running::start(&queue, quick(&["odd", "q"]));
    queue.push("q", &job("C", 1)).await.unwrap();
    assert_eq!(next(&mut worker.jobs).await.queue, "q");
}

#[tokio::test]
async fn a_handler_that_never_yields_hinders_only_itself() {
    struct Blocks;
    impl resque::Handler for Blocks {
        async fn run(&self, job: resque::Job) -> Result<(), resque::Failure> {
            if job.class == "block" {
                std::thread::sleep(Duration::from_secs(5));
            }
            Ok(())
        }
    }
    let server = Server::start().await;
    let queue = server.queue().await;
    queue.push("q", &job("block", 1)).await.unwrap();
    let config = WorkerConfig {
        slots: 1,
        job_timeout: Duration::from_millis(100),
        ..quick(&["q"])
    };
    let stop = CancellationToken::new();
    let (given, token) = (queue.clone(), stop.clone());
    // The runtime is its own: the handler takes one of its threads away.
    let thread = std::thread::spawn(move || {
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = threads.unwrap();
        let queue = runtime.block_on(async { work(given, config, Blocks, Gate::new(), token).await });
        runtime.shutdown_background();
        queue.unwrap();
    });
    queue.push("q", &job("C", 2)).await.unwrap();
    let began = Instant::now();
    all_done(&server, &queue, &["q"]).await;
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the slot was free before the handler was"
    );
    let entry = &failures(&queue, 1).await[0];
    assert_eq!(entry.exception, "Resque::JobTimeout");
    stop.cancel();
    thread.join().unwrap();
}

#[tokio::test]
async fn a_foreign_record_keeps_no_other_job_from_its_rescue() {
    let server = Server::start().await;
    let queue = server.queue().await;
    // Two processes whose leases ended long ago: one with records of another form, one with a job.
    for (process, field, value) in [
        ("a:1:q", "queue", b"q".to_vec()),
        ("a:1:q", "0-1", b"no length".to_vec()),
        ("b:2:q", "0-1", [b"1:q".as_slice(), &job("C", 7)].concat()),
    ] {
        let inflight = format!("{{resque}}:inflight:{process}");
        let _: i64 = server
            .raw("HSET", &[inflight.as_bytes(), field.as_bytes(), &value])
            .await;
        let _: i64 = server
            .raw("ZADD", &[b"{resque}:leases", b"1", process.as_bytes()])
            .await;
    }
    let mut worker = Running::start(&queue, quick(&["q"]));
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 7));
}

//! What a worker does with jobs of every kind, against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

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
async fn jobs_run_in_the_order_of_the_queues_and_of_their_pushes() {
    let server = Server::start().await;
    let queue = server.queue().await;
    for n in 0..300 {
        queue.push("low", &job("C", n)).await.unwrap();
        queue.push("high", &job("C", n)).await.unwrap();
    }
    let config = WorkerConfig {
        slots: 1,
        ..quick(&["high", "low"])
    };
    let mut worker = Running::start(&queue, config);
    for name in ["high", "low"] {
        for n in 0..300 {
            let seen = next(&mut worker.jobs).await;
            assert_eq!((seen.queue.as_str(), seen.raw), (name, job("C", n)));
        }
    }
    all_done(&server, &queue, &["high", "low"]).await;
    assert_eq!(queue.stats().await.unwrap(), (600, 0));
    assert!(server.keys("*rescues:*").await.is_empty());
}

#[tokio::test]
async fn pickup_is_immediate() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["a", "b"]));
    let mut times = Vec::new();
    for n in 0..100 {
        let key: &[u8] = if n % 2 == 0 {
            b"{resque}:queue:a"
        } else {
            b"{resque}:queue:b"
        };
        let pushed = Instant::now();
        // A bare push, as any client might do it.
        let _: usize = server.raw("RPUSH", &[key, &job("C", n)]).await;
        assert_eq!(next(&mut worker.jobs).await.raw, job("C", n));
        times.push(pushed.elapsed());
    }
    times.sort();
    println!("median {:?}, slowest {:?}", times[50], times[99]);
    // Nothing here polls oftener than once a minute.
    assert!(times[90] < Duration::from_millis(500), "{:?}", times[90]);
}

#[tokio::test]
async fn the_wait_for_jobs_neither_loses_nor_reorders_any() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = |slots| WorkerConfig {
        slots,
        ..quick(&["q"])
    };
    // Four workers wait on one queue, while pushes of several come in bursts.
    let mut workers: Vec<Running> = (0..4).map(|_| Running::start(&queue, config(1))).collect();
    for burst in 0..200u64 {
        let jobs: Vec<Vec<u8>> = (0..5).map(|n| job("C", burst * 5 + n)).collect();
        let mut args: Vec<&[u8]> = vec![b"{resque}:queue:q"];
        args.extend(jobs.iter().map(Vec::as_slice));
        let _: usize = server.raw("RPUSH", &args).await;
    }
    all_done(&server, &queue, &["q"]).await;
    let mut seen = Vec::new();
    for worker in &mut workers {
        let mut of_one: Vec<u64> = Vec::new();
        while let Ok(job) = worker.jobs.try_recv() {
            of_one.push(job.args[0].as_u64().unwrap());
        }
        assert!(of_one.is_sorted(), "one slot sees the jobs in their order");
        seen.extend(of_one);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_star_finds_queues_that_are_new() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["*"]));
    until("the worker is there", async || {
        queue.workers().await.unwrap().len() == 4
    })
    .await;
    queue.push("brand-new", &job("C", 1)).await.unwrap();
    assert_eq!(next(&mut worker.jobs).await.queue, "brand-new");
    assert!(queue.workers().await.unwrap()[0].listens_on("brand-new"));
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
async fn a_closed_gate_takes_no_job_and_opens_by_itself() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("slow", 0)).await.unwrap();
    next(&mut worker.jobs).await;
    let opens = Instant::now() + Duration::from_millis(400);
    worker.gate.pause_until(opens);
    worker.gate.pause_until(Instant::now());
    assert_eq!(
        worker.gate.paused_until(),
        Some(opens),
        "the later instant counts"
    );
    queue.push("q", &job("C", 1)).await.unwrap();
    next(&mut worker.jobs).await;
    assert!(Instant::now() >= opens);
    assert_eq!(worker.gate.paused_until(), None);
    until("the job in hand ended", async || {
        worker.ended.load(Ordering::SeqCst) == 2
    })
    .await;
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
async fn an_idle_worker_asks_little() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = WorkerConfig {
        slots: 10,
        ..quick(&["a", "b", "c", "d"])
    };
    let config = WorkerConfig {
        lease: Duration::from_secs(45),
        heartbeat: Duration::from_secs(10),
        ..config
    };
    let worker = Running::start(&queue, config);
    let waiting = async || {
        let info: String = server.raw("INFO", &[b"clients"]).await;
        info.contains("blocked_clients:4")
    };
    until("all queues are waited for", waiting).await;
    let processed = async || {
        let info: String = server.raw("INFO", &[b"stats"]).await;
        let line = info
            .lines()
            .find_map(|l| l.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let before = processed().await;
    tokio::time::sleep(Duration::from_secs(3)).await; // the time measured
    let commands = processed().await - before;
    println!("{commands} commands in 3 s");
    assert!(
        commands < 12,
        "{commands} commands in 3 s, our own INFO among them"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused_at_once() {
    let queue = Queue::connect_lazy(&resque::Config::default()).unwrap();
    let bad = [
        WorkerConfig {
            queues: vec![],
            ..quick(&[])
        },
        quick(&["a,b"]),
        quick(&[""]),
        WorkerConfig {
            slots: 0,
            ..quick(&["q"])
        },
        WorkerConfig {
            lease: Duration::from_millis(200),
            ..quick(&["q"])
        },
        WorkerConfig {
            heartbeat: Duration::from_secs(40),
            ..quick(&["q"])
        },
        WorkerConfig {
            failed_limit: 0,
            ..quick(&["q"])
        },
    ];
    for config in bad {
        let shown = format!("{config:?}");
        let (handler, token) = (std::sync::Arc::new(Nobody), CancellationToken::new());
        let refused = work(queue.clone(), config, handler, Gate::new(), token).await;
        assert!(matches!(refused, Err(resque::Error::Config(_))), "{shown}");
    }
}

struct Nobody;
impl resque::Handler for Nobody {
    async fn run(&self, _: resque::Job) -> Result<(), resque::Failure> {
        Ok(())
    }
}

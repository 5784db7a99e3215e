//! What the queue side promises, against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::time::{Duration, Instant};

use common::{Running, Server, all_done, job, next, quick, until};
use resque::{Config, Error, Push, Queue};

fn push(queue: &str, arg: u64) -> Push {
    Push {
        queue: queue.to_owned(),
        payload: job("C", arg),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// How many were pushed.
fn count(pushed: Result<Vec<bool>, Error>) -> usize {
    pushed.unwrap().into_iter().filter(|pushed| *pushed).count()
}

#[tokio::test]
async fn a_push_has_the_bytes_and_keys_of_ruby() {
    let server = Server::start().await;
    let queue = server.queue().await;
    queue.push("q", &job("C", 1)).await.unwrap();
    queue.push("q", &job("C", 2)).await.unwrap();
    let list: Vec<String> = server.raw("LRANGE", &[b"{resque}:queue:q", b"0", b"-1"]).await;
    assert_eq!(
        list,
        [r#"{"class":"C","args":[1]}"#, r#"{"class":"C","args":[2]}"#]
    );
    assert_eq!(queue.queues().await.unwrap(), ["q"]);
    assert_eq!(queue.len("q").await.unwrap(), 2);
    assert_eq!(queue.peek("q", 1, 5).await.unwrap(), [job("C", 2)]);
    assert_eq!(queue.peek("q", 0, 0).await.unwrap(), Vec::<Vec<u8>>::new());
}

#[tokio::test]
async fn what_is_queued_is_not_queued_again() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let jobs = [push("q", 1), push("q", 2), push("q", 1), push("other", 1)];
    let pushed = queue.push_unique_many(&jobs, MINUTE).await.unwrap();
    assert_eq!(pushed, [true, true, false, true]);
    let pushed = queue.push_unique_many(&jobs, MINUTE).await.unwrap();
    assert_eq!(pushed, [false; 4]);
    assert_eq!(queue.len("q").await.unwrap(), 2);
    // The plain push knows nothing of it.
    queue.push("q", &job("C", 1)).await.unwrap();
    assert_eq!(queue.len("q").await.unwrap(), 3);
    assert_eq!(count(queue.push_unique_many(&[], MINUTE).await), 0);
}

#[tokio::test]
async fn what_runs_may_be_queued_again() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let running = || Push {
        queue: "q".to_owned(),
        payload: job("hang", 1),
    };
    assert_eq!(count(queue.push_unique_many(&[running()], MINUTE).await), 1);
    let mut worker = Running::start(&queue, common::quick(&["q"]));
    next(&mut worker.jobs).await;
    worker.gate.pause_until(Instant::now() + MINUTE);
    assert_eq!(count(queue.push_unique_many(&[running()], MINUTE).await), 1);
    // The worker was idle, and may have been waiting for just this job when the gate closed.
    worker.gate.open();
    next(&mut worker.jobs).await;
}

#[tokio::test]
async fn a_cleared_queue_strands_nothing() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let jobs = [push("q", 1), push("q", 2)];
    queue.push_unique_many(&jobs, MINUTE).await.unwrap();
    let _: usize = server.raw("DEL", &[b"{resque}:queue:q"]).await;
    assert_eq!(
        count(queue.push_unique_many(&jobs[..1], MINUTE).await),
        1,
        "the queue is empty"
    );
    assert_eq!(
        count(queue.push_unique_many(&jobs[..1], MINUTE).await),
        0,
        "and now it is not"
    );
    // A marker that nothing belongs to any more goes with its time.
    let short = [push("q", 3)];
    queue
        .push_unique_many(&short, Duration::from_millis(50))
        .await
        .unwrap();
    let _: usize = server
        .raw("LREM", &[b"{resque}:queue:q", b"0", &job("C", 3)])
        .await;
    until("the marker expires", async || {
        count(queue.push_unique_many(&short, MINUTE).await) == 1
    })
    .await;
    let _: () = server.raw("FLUSHALL", &[]).await;
    assert_eq!(count(queue.push_unique_many(&jobs, MINUTE).await), 2);
}

#[tokio::test]
async fn a_hundred_thousand_unique_jobs_go_in_one_call() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let jobs: Vec<Push> = (0..100_000).map(|n| push("q", n)).collect();
    let began = Instant::now();
    assert_eq!(count(queue.push_unique_many(&jobs, MINUTE).await), jobs.len());
    println!("pushed in {:?}", began.elapsed());
    assert_eq!(count(queue.push_unique_many(&jobs, MINUTE).await), 0);
    assert_eq!(queue.peek("q", 99_999, 1).await.unwrap(), [job("C", 99_999)]);
}

#[tokio::test]
async fn a_failed_job_can_be_queued_again_and_removed() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let worker = Running::start(&queue, quick(&["q"]));
    for n in 0..3 {
        queue.push("q", &job("fail", n)).await.unwrap();
    }
    until("three failures", async || {
        queue.failed_count().await.unwrap() == 3
    })
    .await;
    worker.stop().await;
    let entries = queue.failed(0, 10).await.unwrap();
    let second = &entries[1];
    assert_eq!(second.index, 1);
    queue.requeue_failed(1).await.unwrap();
    assert_eq!(queue.peek("q", 0, 9).await.unwrap().concat(), second.payload);
    let noted = &queue.failed(1, 1).await.unwrap()[0];
    assert_eq!(
        noted.retried_at.as_ref().unwrap().len(),
        "2026/11/24 05:57:01 UTC".len()
    );
    queue.remove_failed(1).await.unwrap();
    assert_eq!(queue.failed(0, 10).await.unwrap().len(), 2);
    assert_eq!(queue.remove_failed(2).await, Err(Error::NoSuchEntry { index: 2 }));
    let foreign = br#"{"worker":"w","payload":null,"queue":"q"}"#;
    let _: usize = server.raw("RPUSH", &[b"{resque}:failed", foreign]).await;
    assert!(matches!(
        queue.requeue_failed(2).await,
        Err(Error::NotAJob { index: 2, .. })
    ));
}

#[tokio::test]
async fn workers_of_every_client_are_listed() {
    let server = Server::start().await;
    let queue = server.queue().await;
    for id in ["box:12:mail,web", "solo", "n:7+2:*", "a:b:c:d"] {
        let _: usize = server.raw("SADD", &[b"{resque}:workers", id.as_bytes()]).await;
    }
    let doing = br#"{"queue":"mail","run_at":5,"payload":{"class":"C","args":[]}}"#;
    let _: () = server
        .raw("SET", &[b"{resque}:worker:box:12:mail,web", doing])
        .await;
    let _: () = server
        .raw("SET", &[b"{resque}:worker:n:7+2:*", b"nonsense"])
        .await;
    let beat = b"2020-01-01T00:00:00+00:00";
    let _: usize = server
        .raw("HSET", &[b"{resque}:workers:heartbeat", b"n:7+2:*", beat])
        .await;
    let workers = queue.workers().await.unwrap();
    let named = |id: &str| workers.iter().find(|w| w.id == id).unwrap();
    let busy = named("box:12:mail,web");
    assert_eq!((busy.host.as_str(), busy.pid.as_str()), ("box", "12"));
    assert_eq!(
        busy.working.as_ref().unwrap().payload,
        br#"{"class":"C","args":[]}"#
    );
    assert!(busy.listens_on("web") && !busy.listens_on("we"));
    assert!(named("n:7+2:*").listens_on("anything"));
    assert!(named("n:7+2:*").silent_for.unwrap() > MINUTE);
    assert_eq!(named("a:b:c:d").queues, ["c:d"]);
    assert!(named("solo").queues.is_empty());
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_said_at_once_and_found_later() {
    let mut server = Server::start().await;
    server.kill();
    let began = Instant::now();
    let text = Queue::connect(&server.config()).await.unwrap_err().to_string();
    assert!(text.contains("redis.sock cannot be used"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2));
    let queue = Queue::connect_lazy(&server.config()).unwrap();
    assert!(queue.push("q", b"x").await.unwrap_err().is_outage());
    server.start_again().await;
    queue.push("q", b"x").await.unwrap();
    server.kill();
    server.start_again().await;
    // The old connection is dead, and the caller does not notice.
    queue.push("q", b"x").await.unwrap();
    assert_eq!(queue.len("q").await.unwrap(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let server = Server::start().await;
    let _: () = server.raw("CONFIG", &[b"SET", b"requirepass", b"right"]).await;
    let mut config = server.config();
    config.url.push_str("?pass=hunter2");
    let text = Queue::connect(&config).await.unwrap_err().to_string();
    assert!(text.to_lowercase().contains("password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let none = Queue::connect(&server.config()).await.unwrap_err().to_string();
    assert!(none.contains("NOAUTH"), "{none}");
}

#[test]
fn a_namespace_must_be_a_name() {
    for namespace in ["", "a b"] {
        let config = Config {
            namespace: namespace.to_owned(),
            ..Config::default()
        };
        assert!(matches!(Queue::connect_lazy(&config), Err(Error::Config(_))));
    }
}

#[tokio::test]
async fn a_pause_of_all_workers_is_seen_and_kept() {
    let server = Server::start().await;
    let queue = server.queue().await;
    assert!(!queue.is_paused().await.unwrap());
    let _: () = server
        .raw("SET", &[b"{resque}:pause-all-workers", b" True\n"])
        .await;
    assert!(queue.is_paused().await.unwrap());
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("C", 1)).await.unwrap();
    until("the worker is there", async || {
        queue.workers().await.unwrap().len() == 4
    })
    .await;
    assert_eq!(queue.len("q").await.unwrap(), 1);
    let _: usize = server.raw("DEL", &[b"{resque}:pause-all-workers"]).await;
    next(&mut worker.jobs).await;
    all_done(&server, &queue, &["q"]).await;
}

#[tokio::test]
async fn many_jobs_go_in_one_call_in_their_order() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut jobs: Vec<Push> = (0..100_000).map(|n| push("q", n)).collect();
    jobs.push(push("other", 7));
    jobs.push(push("q", 7));
    let began = Instant::now();
    queue.push_many(&jobs).await.unwrap();
    println!("pushed in {:?}", began.elapsed());
    queue.push_many(&[]).await.unwrap();
    assert_eq!(queue.queues().await.unwrap(), ["other", "q"]);
    assert_eq!(queue.len("other").await.unwrap(), 1);
    let seen = queue.peek("q", 0, 200_000).await.unwrap();
    let expected = (0..100_000).chain([7]).map(|n| job("C", n));
    assert!(seen.into_iter().eq(expected));
}

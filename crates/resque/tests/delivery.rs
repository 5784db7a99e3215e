//! No job is lost, whatever dies: the worker, the connection, Redis, or everything in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use common::{Process, Running, Server, all_done, connect, job, next, quick, until};
use resque::{Config, Failure, Gate, Handler, Job, Queue, WorkerConfig, work};
use tokio_util::sync::CancellationToken;

/// Counts in Redis that a job was done: `done` is a hash of argument and times.
struct CountInRedis(String);

impl Handler for CountInRedis {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        let mut connection = connect(&self.0).await;
        if job.class == "kill" {
            std::process::abort();
        }
        let arg = job.args[0].to_string();
        let _: () = redis::cmd("HINCRBY")
            .arg("done")
            .arg(arg)
            .arg(1)
            .query_async(&mut connection)
            .await
            .unwrap();
        Ok(())
    }
}

/// The worker process of the tests below, which start this same program again to kill it.
#[tokio::test]
#[ignore = "a worker that other tests start and kill"]
async fn child_worker() {
    let url = std::env::var("RESQUE_TEST_URL").expect("started by another test");
    let config = Config {
        url: url.clone(),
        namespace: "{resque}".to_owned(),
        ..Config::default()
    };
    let queue = Queue::connect(&config).await.unwrap();
    let handler = CountInRedis(url);
    let stop = CancellationToken::new();
    work(queue, quick(&["q"]), handler, Gate::new(), stop)
        .await
        .unwrap();
}

async fn done(server: &Server) -> HashMap<u64, u32> {
    server.raw("HGETALL", &[b"done"]).await
}

#[tokio::test]
async fn a_job_that_kills_its_worker_fails_after_its_rescues() {
    let server = Server::start().await;
    let queue = server.queue().await;
    queue.push("q", &job("kill", 1)).await.unwrap();
    let mut process = Process::worker(&server);
    until("it has failed", async || {
        if process.0.try_wait().unwrap().is_some() {
            process = Process::worker(&server);
        }
        queue.failed_count().await.unwrap() == 1
    })
    .await;
    let entry = &queue.failed(0, 1).await.unwrap()[0];
    assert_eq!(entry.exception, "Resque::DirtyExit");
    assert_eq!(entry.payload, job("kill", 1));
    assert!(entry.error.contains("4 times"), "{}", entry.error);
    assert!(server.keys("*rescues").await.is_empty(), "a retry begins anew");
    queue.push("q", &job("C", 2)).await.unwrap();
    until("the worker lives", async || done(&server).await.contains_key(&2)).await;
}

#[tokio::test]
async fn a_rescued_job_knows_it_and_forgets_when_it_ends_well() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let dead = "h.rs00000000:1+0:q";
    let raw = job("C", 1);
    // What a worker leaves that died with a job in hand.
    let held = [b"1:q".as_slice(), &raw].concat();
    let fields: [&[u8]; 3] = [b"{resque}:inflight:h.rs00000000:1:q", b"0-7", &held];
    let _: usize = server.raw("HSET", &fields).await;
    let _: usize = server
        .raw("ZADD", &[b"{resque}:leases", b"1", b"h.rs00000000:1:q"])
        .await;
    let _: usize = server
        .raw("SADD", &[b"{resque}:workers", dead.as_bytes(), b"foreign:1:q"])
        .await;
    let old = b"2020-01-01T00:00:00+00:00";
    for id in [dead.as_bytes(), b"foreign:1:q"] {
        let _: usize = server
            .raw("HSET", &[b"{resque}:workers:heartbeat", id, old])
            .await;
    }
    let config = quick(&["q"]);
    let rescues = config.rescues.clone();
    let mut worker = Running::start(&queue, config);
    assert_eq!(next(&mut worker.jobs).await.raw, raw);
    until("the rescue is counted", async || rescues.put_back() == 1).await;
    assert_eq!(rescues.given_up(), 0);
    until("the dead are not listed", async || {
        let workers = queue.workers().await.unwrap();
        !workers.iter().any(|w| w.id == dead)
    })
    .await;
    let workers = queue.workers().await.unwrap();
    assert!(
        workers.iter().any(|w| w.id == "foreign:1:q"),
        "others' registrations are theirs"
    );
    all_done(&server, &queue, &["q"]).await;
}

#[tokio::test]
async fn losing_redis_registration_comes_back() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    let registered = async || {
        let workers = queue.workers().await.unwrap();
        workers.len() == 4
            && workers
                .iter()
                .all(|w| w.started.is_some() && w.silent_for.is_some())
    };
    until("it is registered", registered).await;
    let _: () = server.raw("FLUSHALL", &[]).await;
    let _: () = server.raw("SCRIPT", &[b"FLUSH"]).await;
    until("it is registered again", registered).await;
    queue.push("q", &job("C", 1)).await.unwrap();
    next(&mut worker.jobs).await;
    worker.stop().await;
    assert_eq!(
        server.keys("*worker*").await,
        Vec::<String>::new(),
        "it leaves nothing behind"
    );
}

#[tokio::test]
async fn a_worker_goes_on_after_redis_was_away() {
    let mut server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("slow", 0)).await.unwrap();
    next(&mut worker.jobs).await;
    queue.push("other", &job("C", 9)).await.unwrap();
    server.kill();
    // The job in hand ends while Redis is away.
    until("the job ended", async || {
        worker.ended.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    server.start_again().await;
    queue.push("q", &job("C", 1)).await.unwrap();
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 1));
    all_done(&server, &queue, &["q"]).await;
    assert_eq!(queue.len("other").await.unwrap(), 1);
    assert_eq!(
        queue.stats().await.unwrap(),
        (2, 0),
        "its end was recorded, and it ran once"
    );
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_waits_for_a_redis_that_is_not_there_yet() {
    let mut server = Server::start().await;
    server.kill();
    let queue = Queue::connect_lazy(&server.config()).unwrap();
    let mut worker = Running::start(&queue, quick(&["q"]));
    server.start_again().await;
    queue.push("q", &job("C", 1)).await.unwrap();
    next(&mut worker.jobs).await;
}

#[tokio::test]
async fn a_drain_waits_for_the_jobs_in_hand() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("slow", 1)).await.unwrap();
    next(&mut worker.jobs).await;
    worker.shutdown.cancel();
    let ended = worker.ended.clone();
    worker.stop().await;
    assert_eq!(ended.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(queue.stats().await.unwrap(), (1, 0));
}

#[tokio::test]
async fn unfinished_jobs_are_given_back_at_the_end_of_the_drain() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = WorkerConfig {
        drain: Duration::from_millis(100),
        slots: 2,
        ..quick(&["q"])
    };
    let mut worker = Running::start(&queue, config);
    for n in 0..3 {
        queue.push("q", &job("hang", n)).await.unwrap();
    }
    next(&mut worker.jobs).await;
    next(&mut worker.jobs).await;
    worker.stop().await;
    let mut left = queue.peek("q", 0, 10).await.unwrap();
    assert_eq!(left.pop().unwrap(), job("hang", 2), "they go to the head");
    left.sort();
    assert_eq!(left, [job("hang", 0), job("hang", 1)], "with the same bytes");
    assert!(
        server.keys("*rescues").await.is_empty(),
        "an orderly end is no rescue"
    );
    assert_eq!(server.keys("*inflight*").await, Vec::<String>::new());
    assert!(queue.workers().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_job_whose_lease_was_lost_counts_for_nothing() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("slow", 1)).await.unwrap();
    next(&mut worker.jobs).await;
    let _: () = server.raw("FLUSHALL", &[]).await;
    until("it ended", async || {
        worker.ended.load(std::sync::atomic::Ordering::SeqCst) == 1
    })
    .await;
    worker.stop().await;
    assert_eq!(queue.stats().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_long_job_keeps_its_lease() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut first = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("slow", 1)).await.unwrap();
    next(&mut first.jobs).await;
    // Three leases long, with another worker that would take it up at once.
    let mut second = Running::start(&queue, quick(&["q"]));
    all_done(&server, &queue, &["q"]).await;
    assert!(second.jobs.try_recv().is_err());
    assert_eq!(queue.stats().await.unwrap(), (1, 0));
}

#[tokio::test]
async fn broken_connections_and_lost_answers_lose_no_job() {
    const JOBS: u64 = 1000;
    let server = Server::start().await;
    let config = Config {
        response_timeout: Duration::from_millis(100),
        ..server.config()
    };
    let queue = Queue::connect(&config).await.unwrap();
    let mut worker = Running::start(&queue, quick(&["q"]));
    let other = server.queue().await;
    let pushes = tokio::spawn(async move {
        for n in 0..JOBS {
            // Its connection is broken too, at times twice in a row.
            while other.push("q", &job("C", n)).await.is_err() {}
        }
    });
    let client = redis::Client::open(server.config().url).unwrap();
    let (mut rounds, limit) = (0, Instant::now() + Duration::from_secs(300));
    while !pushes.is_finished() || queue.len("q").await.unwrap_or(1) > 0 {
        rounds += 1;
        assert!(
            Instant::now() < limit,
            "jobs are left after {rounds} disturbances"
        );
        // A disturbance that was carried out late breaks this connection too.
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            continue;
        };
        // A server that is slow beyond the worker's patience, or a connection that breaks.
        let mut trouble = redis::cmd("CLIENT");
        match rounds % 4 {
            0 => trouble.arg("PAUSE").arg(130),
            _ => trouble.arg("KILL").arg("TYPE").arg("normal"),
        };
        let _: redis::RedisResult<redis::Value> = trouble.query_async(&mut connection).await;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..15))).await; // the moment is random
    }
    pushes.await.unwrap();
    all_done(&server, &server.queue().await, &["q"]).await;
    let mut seen: Vec<u64> = Vec::new();
    while let Ok(job) = worker.jobs.try_recv() {
        seen.push(job.args[0].as_u64().unwrap());
    }
    seen.sort_unstable();
    let runs = seen.len();
    seen.dedup();
    println!("{rounds} disturbances, {} runs for {JOBS} jobs", runs);
    assert_eq!(seen, (0..JOBS).collect::<Vec<u64>>());
    assert_eq!(server.queue().await.failed_count().await.unwrap(), 0);
}

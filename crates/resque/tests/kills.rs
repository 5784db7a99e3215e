//! The worker process is killed at random under load, `RESQUE_KILLS` times (20 unless it is set).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{collections::HashMap, time::Duration};

use common::{Process, Server, all_done, connect, job, quick, until};
use resque::{Config, Failure, Gate, Handler, Job, Push, Queue, WorkerConfig, work};
use tokio_util::sync::CancellationToken;

/// Works for up to 5 ms, and then counts in Redis that the job was done: `done` has a field for each.
struct CountInRedis(redis::aio::MultiplexedConnection);

impl Handler for CountInRedis {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        let work = Duration::from_micros(fastrand::u64(0..5000));
        tokio::time::sleep(work).await; // the work
        let mut command = redis::cmd("HINCRBY");
        command.arg("done").arg(job.args[0].to_string()).arg(1);
        let counted: redis::RedisResult<()> = command.query_async(&mut self.0.clone()).await;
        counted.map_err(|failure| Failure::new("Redis", failure.to_string()))
    }
}

#[tokio::test]
#[ignore = "the worker that the test below starts and kills"]
async fn child_worker() {
    let url = std::env::var("RESQUE_TEST_URL").expect("started by another test");
    // With patience: a count whose answer is late would be a failed job.
    let handler = CountInRedis(connect(&url).await);
    let config = Config {
        url,
        namespace: "{resque}".to_owned(),
        ..Config::default()
    };
    let queue = Queue::connect(&config).await.unwrap();
    let worker = WorkerConfig {
        slots: 16,
        // The test is about the loss of jobs, not of patience.
        max_rescues: 100,
        ..quick(&["q"])
    };
    work(queue, worker, handler, Gate::new(), CancellationToken::new())
        .await
        .unwrap();
}

async fn done(server: &Server) -> usize {
    server.raw("HLEN", &[b"done"]).await
}

#[tokio::test]
async fn a_killed_worker_loses_no_job() {
    let kills: usize = std::env::var("RESQUE_KILLS").map_or(20, |number| number.parse().unwrap());
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut pushed = 0;
    // Two at a time, so that a kill never stops the work.
    let mut processes = [Process::worker(&server), Process::worker(&server)];
    for kill in 0..kills {
        // There is always more to do than both can do until the next kill.
        if queue.len("q").await.unwrap() < 5000 {
            let jobs = (pushed..pushed + 5000).map(|number| Push {
                queue: "q".to_owned(),
                payload: job("C", number),
            });
            queue.push_many(&jobs.collect::<Vec<Push>>()).await.unwrap();
            pushed += 5000;
        }
        let moment = done(&server).await + fastrand::usize(20..300);
        until("they get on with it", async || done(&server).await >= moment).await;
        assert!(queue.len("q").await.unwrap() > 0, "the kill falls into the work");
        processes[kill % 2] = Process::worker(&server); // which kills the one that was there
    }
    until("all are done", async || done(&server).await as u64 == pushed).await;
    all_done(&server, &queue, &["q"]).await;
    let times: HashMap<u64, u32> = server.raw("HGETALL", &[b"done"]).await;
    assert!((0..pushed).all(|number| times.contains_key(&number)));
    let twice = times.values().filter(|times| **times > 1).count();
    println!("{kills} kills, {pushed} jobs: none lost, {twice} done more than once");
    assert_eq!(queue.failed_count().await.unwrap(), 0);
}

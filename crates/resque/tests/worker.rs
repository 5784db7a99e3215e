//! What a worker does with jobs of every kind, against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use common::{Running, Server, all_done, job, next, quick, until};
use resque::{Gate, Queue, WorkerConfig, work};
use tokio_util::sync::CancellationToken;

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
    assert!(server.keys("*rescues").await.is_empty());
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
async fn what_a_slot_does_is_shown_until_it_ends() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let mut worker = Running::start(&queue, quick(&["q"]));
    // With blanks, and a text that would be trouble in a careless quotation.
    let raw = r#"{ "class": "held", "args": ["\" \\ ü"] }"#.as_bytes();
    queue.push("q", raw).await.unwrap();
    queue.push("q", b"[not a job").await.unwrap();
    next(&mut worker.jobs).await;
    let working = async || {
        let workers = queue.workers().await.unwrap();
        workers.into_iter().filter_map(|w| w.working).collect::<Vec<_>>()
    };
    until("it is shown", async || !working().await.is_empty()).await;
    let shown = &working().await[0];
    assert_eq!((shown.queue.as_str(), shown.payload.as_slice()), ("q", raw));
    assert_eq!(shown.run_at.len(), "2026-11-24T05:57:01Z".len());
    let keys = server.keys("*worker:*:q").await;
    let text: String = server.raw("GET", &[keys[0].as_bytes()]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = keys[0].strip_prefix("{resque}:worker:").unwrap();
    assert_eq!(
        json["worker"],
        id.strip_suffix(":q").unwrap(),
        "as node-resque names it"
    );
    worker.release.cancel();
    all_done(&server, &queue, &["q"]).await;
    assert!(working().await.is_empty());
    until("its slot has counted it", async || {
        let keys = server.keys("*stat:processed:*").await;
        let mut counted = 0;
        for key in keys {
            let count: String = server.raw("GET", &[key.as_bytes()]).await;
            counted += count.parse::<u32>().unwrap();
        }
        counted == 2
    })
    .await;
    worker.stop().await;
    assert!(server.keys("*stat:*:*").await.is_empty());
}

#[tokio::test]
async fn a_star_takes_the_named_ones_first() {
    let server = Server::start().await;
    let queue = server.queue().await;
    for name in ["b", "a", "urgent"] {
        queue.push(name, &job("C", 1)).await.unwrap();
    }
    let config = WorkerConfig {
        slots: 1,
        ..quick(&["urgent", "*"])
    };
    let mut worker = Running::start(&queue, config);
    for name in ["urgent", "a", "b"] {
        assert_eq!(next(&mut worker.jobs).await.queue, name);
    }
}

#[tokio::test]
async fn a_thousand_slots_are_filled_and_emptied() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let config = WorkerConfig {
        slots: 1000,
        drain: Duration::from_millis(100),
        ..quick(&["q"])
    };
    let mut worker = Running::start(&queue, config);
    for n in 0..1500 {
        queue.push("q", &job("hang", n)).await.unwrap();
    }
    for _ in 0..1000 {
        next(&mut worker.jobs).await;
    }
    assert_eq!(queue.len("q").await.unwrap(), 500);
    worker.stop().await;
    let left = queue.peek("q", 0, 2000).await.unwrap();
    assert!(
        left.into_iter().eq((0..1500).map(|n| job("hang", n))),
        "all are back, in their order"
    );
    assert!(server.keys("*inflight*").await.is_empty());
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

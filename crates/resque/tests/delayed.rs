//! Jobs for later, against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Running, Server, job, next, quick, until};
use resque::{Error, Queue, schedule};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);

fn second(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// Puts payloads into the schedule as another client would, for a second that has passed.
async fn overdue(server: &Server, second: &str, payloads: &[&[u8]]) {
    let list = format!("{{resque}}:delayed:{second}");
    for payload in payloads {
        let _: usize = server.raw("RPUSH", &[list.as_bytes(), payload]).await;
        let index = [b"{resque}:timestamps:", *payload].concat();
        let member = format!("delayed:{second}");
        let _: usize = server.raw("SADD", &[&index, member.as_bytes()]).await;
    }
    let second = second.as_bytes();
    let _: usize = server
        .raw("ZADD", &[b"{resque}:delayed_queue_schedule", second, second])
        .await;
}

async fn texts(queue: &Queue, name: &str) -> Vec<String> {
    let jobs = queue.peek(name, 0, 1000).await.unwrap();
    jobs.into_iter()
        .map(|job| String::from_utf8(job).unwrap())
        .collect()
}

#[tokio::test]
async fn a_delayed_job_is_where_ruby_looks_for_it() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let due = queue
        .push_at("q", &job("C", 1), second(4_000_000_000))
        .await
        .unwrap();
    assert_eq!(due, Some(4_000_000_000));
    let bytes = r#"{"class":"C","args":[1],"queue":"q"}"#;
    assert_eq!(queue.delayed_timestamps(0, 10).await.unwrap(), [4_000_000_000]);
    assert_eq!(
        queue.delayed_at(4_000_000_000, 0, 10).await.unwrap(),
        [bytes.as_bytes()]
    );
    let index = format!("{{resque}}:timestamps:{bytes}");
    let members: Vec<String> = server.raw("SMEMBERS", &[index.as_bytes()]).await;
    assert_eq!(members, ["delayed:4000000000"]);
    assert_eq!(queue.promote_due().await.unwrap(), 0);
    assert_eq!(
        (
            queue.len("q").await.unwrap(),
            queue.delayed_count().await.unwrap()
        ),
        (0, 1)
    );
}

#[tokio::test]
async fn a_job_that_is_due_goes_straight_to_its_queue() {
    let server = Server::start().await;
    let queue = server.queue().await;
    assert_eq!(queue.push_at("q", &job("C", 1), second(5)).await.unwrap(), None);
    assert_eq!(
        queue.push_in("q", &job("C", 2), Duration::ZERO).await.unwrap(),
        None
    );
    assert_eq!(queue.peek("q", 0, 9).await.unwrap(), [job("C", 1), job("C", 2)]);
    assert_eq!(queue.queues().await.unwrap(), ["q"]);
    assert_eq!(queue.delayed_count().await.unwrap(), 0);
    for payload in [b"[]".as_slice(), b"x", br#"{"class":"C","queue":"other"}"#] {
        let refused = queue.push_in("q", payload, HOUR).await;
        assert!(matches!(refused, Err(Error::NotDelayable { .. })));
    }
}

#[tokio::test]
async fn a_delayed_job_keeps_its_bytes_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let odd = br#"{ "class": "C", "args": [12345678901234567890123, "/"], "more": 1 }"#;
    let before = queue.server_time().await.unwrap();
    let due = queue
        .push_in("q/ü", odd, Duration::from_millis(300))
        .await
        .unwrap();
    assert!(Duration::from_secs(due.unwrap()) >= before + Duration::from_millis(300));
    until("it is due", async || queue.promote_due().await.unwrap() == 1).await;
    let now = queue.server_time().await.unwrap();
    assert!(now >= Duration::from_secs(due.unwrap()), "never early");
    let promoted = queue.peek("q/ü", 0, 9).await.unwrap();
    assert_eq!(promoted.len(), 1);
    let text = String::from_utf8(promoted[0].clone()).unwrap();
    assert_eq!(
        text,
        r#"{ "class": "C", "args": [12345678901234567890123, "/"], "more": 1 }"#
    );
    assert_eq!(server.keys("*delayed*").await, Vec::<String>::new());
    assert_eq!(server.keys("*timestamps*").await, Vec::<String>::new());
}

#[tokio::test]
async fn jobs_of_every_client_are_promoted() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let ruby = br#"{"class":"C","args":[1],"queue":"q"}"#;
    let node = br#"{"class":"C","queue":"q","args":[1]}"#;
    let pyres = br#"{"class": "m.C", "queue": "q", "args": [1], "first_attempt": 5}"#;
    overdue(&server, "7", &[ruby, node, pyres]).await;
    assert_eq!(queue.promote_due().await.unwrap(), 3);
    let expected = [
        r#"{"class":"C","args":[1]}"#,
        r#"{"class":"C","queue":"q","args":[1]}"#,
        r#"{"class": "m.C", "queue": "q", "args": [1], "first_attempt": 5}"#,
    ];
    assert_eq!(texts(&queue, "q").await, expected);
    assert_eq!(server.keys("*timestamps*").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_promoted_is_kept_in_failed_and_holds_up_nothing() {
    let server = Server::start().await;
    let queue = server.queue().await;
    overdue(&server, "7", &[b"no json", br#"{"class":"C","args":[1]}"#]).await;
    overdue(&server, "8", &[br#"{"class":"C","args":[1],"queue":"q"}"#]).await;
    // A list that is none, before all others.
    let _: () = server.raw("SET", &[b"{resque}:delayed:6", b"x"]).await;
    let _: usize = server
        .raw("ZADD", &[b"{resque}:delayed_queue_schedule", b"6", b"6"])
        .await;
    assert_eq!(queue.promote_due().await.unwrap(), 3);
    assert_eq!(queue.len("q").await.unwrap(), 1);
    let failed = queue.failed(0, 9).await.unwrap();
    assert_eq!(failed.len(), 2);
    assert!(failed[0].error.contains("names no queue"), "{}", failed[0].error);
    let kept = String::from_utf8(failed[0].payload.clone()).unwrap();
    assert_eq!(kept, r#"{"class":"(unparseable)","args":["no json"]}"#);
    assert_eq!(queue.delayed_timestamps(0, 9).await.unwrap(), [6]);
}

#[tokio::test]
async fn many_schedulers_promote_each_job_once() {
    const JOBS: u64 = 5000;
    let server = Server::start().await;
    let queue = server.queue().await;
    let list = b"{resque}:delayed:9".as_slice();
    let jobs: Vec<Vec<u8>> = (0..JOBS)
        .map(|n| format!(r#"{{"class":"C","args":[{n}],"queue":"q"}}"#).into_bytes())
        .collect();
    let args: Vec<&[u8]> = std::iter::once(list)
        .chain(jobs.iter().map(Vec::as_slice))
        .collect();
    let _: usize = server.raw("RPUSH", &args).await;
    let _: usize = server
        .raw("ZADD", &[b"{resque}:delayed_queue_schedule", b"9", b"9"])
        .await;
    let mut schedulers = JoinSet::new();
    for _ in 0..4 {
        let queue = server.queue().await;
        schedulers.spawn(async move { queue.promote_due().await.unwrap() });
    }
    let promoted: Vec<usize> = schedulers.join_all().await;
    assert_eq!(promoted.iter().sum::<usize>() as u64, JOBS, "{promoted:?}");
    let mut seen = queue.peek("q", 0, 10_000).await.unwrap();
    seen.sort();
    let mut all: Vec<Vec<u8>> = (0..JOBS).map(|n| job("C", n)).collect();
    all.sort();
    assert!(seen == all);
}

#[tokio::test]
async fn a_ruby_scheduler_beside_ours_cuts_off_no_job() {
    const JOBS: u64 = 10_000;
    let server = Server::start().await;
    let queue = server.queue().await;
    let list = "{resque}:delayed:9";
    let jobs = (0..JOBS).map(|n| format!(r#"{{"class":"C","args":[{n}],"queue":"q"}}"#).into_bytes());
    let jobs: Vec<Vec<u8>> = jobs.collect();
    let args = std::iter::once(list.as_bytes()).chain(jobs.iter().map(Vec::as_slice));
    let _: usize = server.raw("RPUSH", &args.collect::<Vec<&[u8]>>()).await;
    let _: usize = server
        .raw("ZADD", &[b"{resque}:delayed_queue_schedule", b"9", b"9"])
        .await;
    // It reads the first hundred, and only then begins the transaction that pushes them and cuts them off.
    let client = redis::Client::open(server.config().url).unwrap();
    let ruby = async {
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        loop {
            let read = redis::cmd("LRANGE").arg(list).arg(0).arg(99).to_owned();
            let read: Vec<String> = read.query_async(&mut connection).await.unwrap();
            if read.is_empty() {
                return;
            }
            let mut push = redis::pipe();
            push.atomic();
            for job in &read {
                push.rpush("{resque}:queue:q", job.replace(r#","queue":"q""#, ""));
            }
            push.ltrim(list, 100, -1);
            let _: () = push.query_async(&mut connection).await.unwrap();
        }
    };
    let ((), ours) = tokio::join!(ruby, queue.promote_due());
    let pushed = queue.len("q").await.unwrap();
    println!("{} promoted by ours, {pushed} pushed by both", ours.unwrap());
    let mut seen = queue.peek("q", 0, pushed).await.unwrap();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len() as u64, JOBS);
}

#[tokio::test]
async fn a_scheduler_wakes_for_what_is_due_and_waits_through_an_outage() {
    let mut server = Server::start().await;
    let queue = server.queue().await;
    let stop = CancellationToken::new();
    let scheduler = tokio::spawn(schedule(queue.clone(), stop.clone()));
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue
        .push_in("q", &job("C", 1), Duration::from_millis(1))
        .await
        .unwrap();
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 1));
    queue
        .push_in("q", &job("C", 2), Duration::from_millis(500))
        .await
        .unwrap();
    server.kill();
    server.start_again().await;
    assert_eq!(next(&mut worker.jobs).await.raw, job("C", 2));
    stop.cancel();
    scheduler.await.unwrap();
}

#[tokio::test]
async fn an_idle_scheduler_asks_little() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let _scheduler = tokio::spawn(schedule(queue.clone(), CancellationToken::new()));
    let processed = async || {
        let info: String = server.raw("INFO", &[b"stats"]).await;
        let line = info
            .lines()
            .find_map(|l| l.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    until("it has begun to look", async || {
        let info: String = server.raw("INFO", &[b"commandstats"]).await;
        info.contains("cmdstat_zrange")
    })
    .await;
    // Our own look is several commands: connecting, and asking.
    let looked = [processed().await, processed().await];
    let own = looked[1] - looked[0];
    tokio::time::sleep(Duration::from_secs(4)).await; // the time measured
    let commands = processed().await - looked[1] - own;
    println!("{commands} commands in 4 s");
    assert!(commands <= 6, "{commands} commands in 4 s");
}

#[tokio::test]
async fn what_was_pushed_can_be_taken_back() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let node = br#"{"class":"C","queue":"q","args":[1]}"#;
    queue.push("q", &job("C", 1)).await.unwrap();
    queue.push("q", node).await.unwrap();
    queue.push("q", &job("C", 2)).await.unwrap();
    assert_eq!(queue.remove_jobs("q", "C", &[1.into()]).await.unwrap(), 2);
    assert_eq!(queue.remove("q", &job("C", 2)).await.unwrap(), 1);
    assert_eq!(queue.remove("q", &job("C", 2)).await.unwrap(), 0);
    assert_eq!(queue.len("q").await.unwrap(), 0);

    for hours in 1..=2 {
        for payload in [&job("C", 1), node.as_slice(), &job("C", 2)] {
            queue.push_in("q", payload, HOUR * hours).await.unwrap();
        }
    }
    assert_eq!(queue.remove_delayed_jobs("q", "C", &[1.into()]).await.unwrap(), 4);
    assert_eq!(queue.remove_delayed("q", &job("C", 2)).await.unwrap(), 2);
    assert_eq!(queue.delayed_count().await.unwrap(), 0);
    assert_eq!(server.keys("*timestamps*").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_taken_back_can_be_pushed_again_at_once() {
    let server = Server::start().await;
    let queue = server.queue().await;
    let push = |arg| resque::Push {
        queue: "q".to_owned(),
        payload: job("C", arg),
    };
    queue.push_unique_many(&[push(1), push(2)], HOUR).await.unwrap();
    queue.remove("q", &job("C", 1)).await.unwrap();
    assert_eq!(
        queue.push_unique_many(&[push(1), push(2)], HOUR).await.unwrap(),
        [true, false]
    );
}

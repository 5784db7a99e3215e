//! A worker of another client stands beside ours on one Redis and one queue: neither does the other any harm.

use std::sync::Arc;
use std::time::Duration;

use integration_tests::harness::eventually;

use crate::peers::Peer::{self, Node, Node2014, Pyres};
use crate::stand::{CLASS, LEASE, Recorder, Stand, each_once};

#[tokio::test]
async fn node_works_beside_us() {
    stands_beside_us(Node).await;
}

#[tokio::test]
async fn node_of_2014_works_beside_us() {
    stands_beside_us(Node2014).await;
}

#[tokio::test]
async fn pyres_works_beside_us() {
    stands_beside_us(Pyres).await;
}

async fn stands_beside_us(peer: Peer) {
    let stand = Stand::new().await;
    let recorder = Arc::new(Recorder {
        takes: Duration::from_millis(20),
        ..Recorder::default()
    });
    // Ours first: it is when they start that the others look for dead workers.
    let ours = stand.work(&["shared"], 2, &recorder).await;
    let mut arguments = vec!["shared"];
    if !matches!(peer, Pyres) {
        arguments.push(CLASS);
    }
    arguments.push("20");
    let theirs = peer.start("work", &stand.url, &arguments).await;
    // In node-resque of today it is the scheduler that looks for them.
    let mut reaper = None;
    if matches!(peer, Node) {
        reaper = Some(peer.start("schedule", &stand.url, &[]).await);
    }
    let all = eventually("three workers to be registered", async || {
        Some(stand.registered().await).filter(|ids| ids.len() == 3)
    })
    .await;

    // Jobs from both, until both have done some.
    peer.run("enqueue-many", &stand.url, &["shared", CLASS, "0", "50"])
        .await;
    let mut pushed = 50;
    eventually("both to have done three jobs", async || {
        if stand.queue.len("shared").await.unwrap() < 20 {
            stand.push("shared", pushed..pushed + 20).await;
            pushed += 20;
        }
        assert_eq!(stand.registered().await, all);
        (stand.done_by(peer).await.len() >= 3 && recorder.numbers().len() >= 3).then_some(())
    })
    .await;
    eventually("all jobs to be done and counted", async || {
        assert_eq!(stand.registered().await, all);
        let (processed, _) = stand.queue.stats().await.unwrap();
        (processed >= pushed as u64).then_some(())
    })
    .await;
    // Long enough for the one that is idle to be declared dead.
    let end = stand.queue.server_time().await.unwrap() + 2 * LEASE;
    eventually("two leases to pass", async || {
        assert_eq!(stand.registered().await, all);
        (stand.queue.server_time().await.unwrap() > end).then_some(())
    })
    .await;

    let mut done = stand.done_by(peer).await;
    done.extend(recorder.numbers());
    each_once(done, pushed);
    assert_eq!(stand.queue.stats().await.unwrap(), (pushed as u64, 0));
    assert_eq!(stand.queue.failed_count().await.unwrap(), 0);
    for worker in stand.queue.workers().await.unwrap() {
        assert_eq!(worker.working, None, "{}", worker.id);
        assert!(
            worker
                .silent_for
                .is_none_or(|silence| silence <= LEASE + Duration::from_secs(1))
        );
    }
    // Each takes its own registration along, and no other.
    theirs.stop().await;
    let left = stand.registered().await;
    assert_eq!(left.len(), 2);
    assert!(left.is_subset(&all));
    ours.stop().await;
    assert!(stand.registered().await.is_empty());
    if let Some(reaper) = reaper {
        reaper.stop().await;
    }
}

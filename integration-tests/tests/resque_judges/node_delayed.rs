//! node-resque of today: jobs for later.

use std::time::Duration;

use integration_tests::harness::eventually;
use resque::payload;
use serde_json::json;

use crate::peers::Peer::Node;
use crate::stand::{CLASS, Recorder, Stand};

#[tokio::test]
async fn nodes_scheduler_promotes_our_delayed_jobs() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 2, &recorder).await;
    for number in 0..20 {
        let job = payload(CLASS, &[number.into()]);
        let due = stand.queue.push_in("mail", &job, Duration::from_secs(1)).await;
        assert!(due.unwrap().is_some());
    }
    let listing = Node.run("listing", &stand.url, &[]).await;
    let seconds = listing["delayed"].as_object().unwrap().values();
    let shown: Vec<_> = seconds.flat_map(|jobs| jobs.as_array().unwrap()).collect();
    assert_eq!(shown.len(), 20, "{listing}");
    assert!(shown.iter().all(|job| job["queue"] == "mail"), "{listing}");

    let scheduler = Node.start("schedule", &stand.url, &[]).await;
    recorder.has_done(20).await;
    nothing_is_left(&stand).await;
    scheduler.stop().await;
    worker.stop().await;
}

#[tokio::test]
async fn our_scheduler_promotes_nodes_delayed_jobs() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 2, &recorder).await;
    Node.run("enqueue-in", &stand.url, &["1000", "mail", CLASS, "0", "20"])
        .await;
    assert!(stand.queue.delayed_count().await.unwrap() > 0);
    let scheduler = stand.schedule();
    recorder.has_done(20).await;
    nothing_is_left(&stand).await;
    let listing = Node.run("listing", &stand.url, &[]).await;
    assert_eq!(listing["delayed"], json!({}));
    scheduler.stop().await;
    worker.stop().await;
}

#[tokio::test]
async fn two_schedulers_side_by_side_promote_each_job_once() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 10, &recorder).await;
    let theirs = Node.start("schedule", &stand.url, &[]).await;
    let ours = stand.schedule();
    Node.run("enqueue-in", &stand.url, &["1500", "mail", CLASS, "0", "500"])
        .await;
    for number in 500..1000 {
        let job = payload(CLASS, &[number.into()]);
        let delay = Duration::from_millis(number);
        stand.queue.push_in("mail", &job, delay).await.unwrap();
    }
    recorder.has_done(1000).await;
    nothing_is_left(&stand).await;
    theirs.stop().await;
    ours.stop().await;
    worker.stop().await;
    // None came late, from a scheduler that was about to stop.
    recorder.has_done(1000).await;
    assert_eq!(stand.queue.len("mail").await.unwrap(), 0);
}

async fn nothing_is_left(stand: &Stand) {
    eventually("the schedule to be cleared away", async || {
        let mut keys = stand.keys("resque:delayed*").await;
        keys.extend(stand.keys("resque:timestamps:*").await);
        keys.is_empty().then_some(())
    })
    .await;
}

//! node-resque of 2014 and pyres enqueue, and our worker runs.

use serde_json::json;

use crate::peers::Peer::{Node2014, Pyres};
use crate::stand::{CLASS, Recorder, Stand};

#[tokio::test]
async fn node_of_2014_enqueues_and_our_worker_runs() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 4, &recorder).await;
    Node2014
        .run("enqueue-many", &stand.url, &["mail", CLASS, "0", "100"])
        .await;
    recorder.has_done(100).await;
    worker.stop().await;
    assert_eq!(stand.queue.stats().await.unwrap(), (100, 0));
}

#[tokio::test]
async fn our_scheduler_promotes_delayed_jobs_of_2014() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 2, &recorder).await;
    Node2014
        .run("enqueue-in", &stand.url, &["1000", "mail", CLASS, "0", "10"])
        .await;
    let scheduled = Node2014
        .run("scheduled-at", &stand.url, &["mail", CLASS, "0"])
        .await;
    assert_eq!(scheduled.as_array().unwrap().len(), 1);
    let scheduler = stand.schedule();
    recorder.has_done(10).await;
    let scheduled = Node2014
        .run("scheduled-at", &stand.url, &["mail", CLASS, "0"])
        .await;
    assert_eq!(scheduled, json!([]));
    scheduler.stop().await;
    worker.stop().await;
}

#[tokio::test]
async fn pyres_enqueues_and_our_worker_runs() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 4, &recorder).await;
    Pyres
        .run("enqueue-many", &stand.url, &["mail", CLASS, "0", "100"])
        .await;
    recorder.has_done(100).await;
    // The job comes with its bytes, of which Python has more than the others.
    let raw = recorder.jobs().remove(0).raw;
    let raw = String::from_utf8(raw).unwrap();
    assert!(raw.contains("\"enqueue_timestamp\": "), "{raw}");
    worker.stop().await;
    assert_eq!(stand.queue.stats().await.unwrap(), (100, 0));
}

//! node-resque of today: queues, listings, failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use integration_tests::harness::eventually;
use resque::payload;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::peers::Peer::Node;
use crate::stand::{CLASS, Recorder, Stand};

#[tokio::test]
async fn node_enqueues_and_our_worker_runs() {
    let stand = Stand::new().await;
    let recorder = Recorder::new();
    let worker = stand.work(&["mail"], 4, &recorder).await;
    Node.run("enqueue-many", &stand.url, &["mail", CLASS, "0", "100"])
        .await;
    recorder.has_done(100).await;
    let job = recorder.jobs().remove(0);
    assert_eq!((job.queue.as_str(), job.class.as_str()), ("mail", CLASS));
    worker.stop().await;
    let listing = Node.run("listing", &stand.url, &[]).await;
    assert_eq!(listing["stats"]["processed"], json!("100"));
    assert_eq!(listing["stats"]["failed"], Value::Null);
}

#[tokio::test]
async fn we_enqueue_and_node_runs() {
    let stand = Stand::new().await;
    let node = Node.start("work", &stand.url, &["mail", CLASS, "0"]).await;
    stand.push("mail", 0..99).await;
    stand
        .queue
        .push("mail", &payload(CLASS, &[99.into()]))
        .await
        .unwrap();
    let done = eventually("node to do a hundred jobs", async || {
        Some(stand.done_by(Node).await).filter(|done| done.len() >= 100)
    })
    .await;
    // One worker, so in their order.
    assert_eq!(done, (0..100).collect::<Vec<_>>());
    node.stop().await;
    assert_eq!(stand.queue.stats().await.unwrap(), (100, 0));
}

#[tokio::test]
async fn node_lists_our_workers_and_what_they_do() {
    let stand = Stand::new().await;
    let held = CancellationToken::new();
    let recorder = Arc::new(Recorder {
        held: Some(held.clone()),
        ..Recorder::default()
    });
    let worker = stand.work(&["urgent", "mail"], 3, &recorder).await;
    stand.push("mail", 0..2).await;
    let listing = eventually("node to see two jobs that run", async || {
        let listing = Node.run("listing", &stand.url, &[]).await;
        (busy(&listing).len() == 2).then_some(listing)
    })
    .await;
    let workers = listing["workers"].as_object().unwrap();
    assert_eq!(workers.len(), 3, "{listing}");
    assert!(
        workers.values().all(|queues| queues == "urgent,mail"),
        "{listing}"
    );
    for (name, working) in busy(&listing) {
        assert_eq!(working["worker"], json!(name));
        assert_eq!(working["queue"], json!("mail"));
        assert_eq!(working["payload"]["class"], json!(CLASS));
        assert!(workers.contains_key(&name), "{listing}");
    }
    let idle = listing["workingOn"].as_object().unwrap().values();
    assert_eq!(idle.filter(|doing| *doing == "started").count(), 1, "{listing}");
    held.cancel();
    recorder.has_done(2).await;
    eventually("node to see all workers idle", async || {
        let listing = Node.run("listing", &stand.url, &[]).await;
        busy(&listing).is_empty().then_some(())
    })
    .await;
    worker.stop().await;
    let listing = Node.run("listing", &stand.url, &[]).await;
    assert_eq!(listing["workers"], json!({}));
}

/// The workers that do something, and what they do.
fn busy(listing: &Value) -> Vec<(String, Value)> {
    let all = listing["workingOn"].as_object().unwrap().iter();
    all.filter(|(_, doing)| doing.is_object())
        .map(|(name, doing)| (name.clone(), doing.clone()))
        .collect()
}

#[tokio::test]
async fn node_shows_retries_and_removes_our_failures() {
    let stand = Stand::new().await;
    let recorder = Arc::new(Recorder {
        failing: AtomicBool::new(true),
        ..Recorder::default()
    });
    let worker = stand.work(&["mail"], 2, &recorder).await;
    // One of each client's form, with what JSON writers disagree about.
    let odd = "a/b <é> \u{7f}\u{2028}\u{1}\t\"\\";
    let ours = payload(
        CLASS,
        &[
            0.into(),
            odd.into(),
            json!(null),
            json!({ "b": [true], "a": -0.5 }),
        ],
    );
    stand.queue.push("mail", &ours).await.unwrap();
    Node.run("enqueue-many", &stand.url, &["mail", CLASS, "1", "1"])
        .await;
    fails(&stand, 2).await;
    let listing = Node.run("listing", &stand.url, &[]).await;
    let now = stand.queue.server_time().await.unwrap().as_secs();
    for entry in listing["failed"].as_array().unwrap() {
        assert_eq!(entry["exception"], json!("OutOfPaper"));
        assert_eq!(entry["error"], json!("the printer “Ψ” has no paper: \"A4\""));
        assert_eq!(entry["queue"], json!("mail"));
        assert!(entry["worker"].as_str().unwrap().ends_with(":mail"), "{entry}");
        // A page would show when it was: Node must be able to read that.
        let age = now - entry["ms"].as_u64().unwrap() / 1000;
        assert!(age < 60, "{entry}");
    }
    recorder.failing.store(false, Ordering::SeqCst);
    Node.run("requeue", &stand.url, &[]).await;
    recorder.has_done(2).await;
    assert_eq!(stand.queue.failed_count().await.unwrap(), 0);
    let again = recorder
        .jobs()
        .into_iter()
        .find(|job| job.args.len() == 4)
        .unwrap();
    assert_eq!(again.args[1], json!(odd));

    recorder.failing.store(true, Ordering::SeqCst);
    stand.push("mail", 7..9).await;
    fails(&stand, 2).await;
    recorder.failing.store(false, Ordering::SeqCst);
    assert_eq!(Node.run("remove-failed", &stand.url, &[]).await, json!(2));
    assert_eq!(stand.queue.failed_count().await.unwrap(), 0);
    worker.stop().await;
    recorder.has_done(2).await;
    assert_eq!(stand.queue.stats().await.unwrap(), (6, 4));
}

async fn fails(stand: &Stand, count: usize) {
    eventually(&format!("{count} failures"), async || {
        (stand.queue.failed_count().await.unwrap() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_removes_what_the_other_has_enqueued() {
    let stand = Stand::new().await;
    Node.run("enqueue-many", &stand.url, &["mail", CLASS, "0", "2"])
        .await;
    stand.push("mail", 0..2).await;
    let removed = stand.queue.remove_jobs("mail", CLASS, &[0.into()]).await;
    assert_eq!(removed.unwrap(), 2);
    // By its arguments Node finds its own only, by the class alone all.
    let removed = Node.run("remove", &stand.url, &["mail", CLASS, "1"]).await;
    assert_eq!(removed, json!([1, 1]));
    assert_eq!(stand.queue.len("mail").await.unwrap(), 0);
}

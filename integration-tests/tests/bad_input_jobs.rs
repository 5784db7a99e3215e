//! Jobs that anybody may push: none of them changes a row that it should not, kills a worker, or gets lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually, npm_peer};
use integration_tests::simulated_fleet::{Fault, FaultKind};

const QUEUE: &str = "initializeEc2Instance";

#[tokio::test]
async fn jobs_that_are_not_jobs_end_in_failed_with_a_sentence() {
    let bed = Bed::new(Options::default()).await;
    let _worker = bed.start("instance-worker");
    let queue = bed.queue().await;
    let bad: &[(&[u8], &str)] = &[
        (
            br#"{"class":"initializeEc2Instance","args":[]}"#,
            "this job has none",
        ),
        (br#"{"class":"initializeEc2Instance"}"#, "this job has none"),
        (
            br#"{"class":"initializeEc2Instance","args":["x'; DROP TABLE gatewayds"]}"#,
            "[ID]",
        ),
        (br#"{"class":"initializeEc2Instance","args":[-7]}"#, "[ID]"),
        (
            br#"{"class":"initializeEc2Instance","args":[1,2,3]}"#,
            "3 arguments",
        ),
        (
            br#"{"class":"initializeEc2Instance","args":[1,{"generation":"all"}]}"#,
            "generation",
        ),
        (br#"{"class":"rm -rf","args":[1]}"#, "no class `rm -rf`"),
        (
            br#"{"class":"setColdWallet","args":[1]}"#,
            "no class `setColdWallet`",
        ),
        (b"not JSON at all", "not a Resque job"),
        (b"\xff\xfe\x00", "not a Resque job"),
        (b"[]", "not a Resque job"),
        (b"null", "not a Resque job"),
    ];
    for (payload, _) in bad {
        queue.push(QUEUE, payload).await.unwrap();
    }
    eventually("all of them to fail", async || {
        (queue.failed_count().await.unwrap() == bad.len()).then_some(())
    })
    .await;
    let failed = queue.failed(0, bad.len()).await.unwrap();
    for (payload, says) in bad {
        let found = failed.iter().any(|entry| entry.error.contains(says));
        assert!(
            found,
            "nothing says `{says}` for {}: {failed:#?}",
            String::from_utf8_lossy(payload)
        );
    }
    // The worker lives, and takes the next real job.
    let id = bed.launch("acme").await;
    queue
        .push(QUEUE, &resque::payload(QUEUE, &[id.into()]))
        .await
        .unwrap();
    bed.reached(id, State::Key).await;
}

#[tokio::test]
async fn jobs_of_no_row_or_of_another_state_or_generation_do_nothing() {
    let bed = Bed::new(Options::default()).await;
    let _workers = [bed.start("instance-worker"), bed.start("ssh-worker")];
    let queue = bed.queue().await;
    let id = bed.launch("acme").await;
    let before = bed.row(id).await;
    for (name, args) in [
        (QUEUE, vec![(id + 1000).into()]),
        (QUEUE, vec![i64::MAX.into()]),
        ("startGatewayd", vec![id.into()]),
        ("terminateEc2Instance", vec![id.into()]),
        (QUEUE, vec![id.into(), serde_json::json!({"generation": 99})]),
        (QUEUE, vec![id.into(), serde_json::json!({"generation": 0})]),
    ] {
        queue.push(name, &resque::payload(name, &args)).await.unwrap();
    }
    // They are successes that did nothing.
    eventually("all of them to be processed", async || {
        (queue.stats().await.unwrap() == (6, 0)).then_some(())
    })
    .await;
    let after = bed.row(id).await;
    assert_eq!(
        (after.state, after.generation, after.attempts),
        (before.state, before.generation, 0)
    );
    assert_eq!(bed.repository.history(id).await.unwrap().len(), 1);
    assert!(bed.fleet.hosts().is_empty());
    assert_eq!(queue.failed_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_failed_job_is_queued_again_from_any_resque_tool() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("acme", |id| {
            bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id))
        })
        .await;
    let parked = bed.parked(id).await;
    let queue = bed.queue().await;
    eventually("its entry in failed", async || {
        (queue.failed_count().await.unwrap() == 1).then_some(())
    })
    .await;
    let entry = &queue.failed(0, 1).await.unwrap()[0];
    assert!(entry.error.contains("host key"), "{entry:?}");
    bed.fleet.clear_faults();
    let (processed, _) = queue.stats().await.unwrap();
    // A late duplicate of the job that failed does not un-park the row.
    let late = [
        id.into(),
        serde_json::json!({"generation": parked.generation - 1}),
    ];
    queue
        .push("retrieveApiKey", &resque::payload("retrieveApiKey", &late))
        .await
        .unwrap();
    eventually("the duplicate to be done with", async || {
        (queue.stats().await.unwrap().0 > processed).then_some(())
    })
    .await;
    assert!(bed.row(id).await.fault.is_some());
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;
    eventually("the row to go on", async || {
        bed.row(id).await.fault.is_none().then_some(())
    })
    .await;
    bed.reached(id, State::Live).await;
    assert_eq!(queue.failed_count().await.unwrap(), 0);
    let events: Vec<String> = bed
        .repository
        .history(id)
        .await
        .unwrap()
        .into_iter()
        .map(|h| h.event)
        .collect();
    assert!(
        events.contains(&"faulted".into()) && events.contains(&"retried".into()),
        "{events:?}"
    );
}

//! A launch that a newer version began, met by this one: both run side by side, or all went back.

use gatewayzen_core::{Next, State};
use integration_tests::simulated_fleet::{Event, Fault};

use crate::faults::{loses_an_answer, refuses};
use crate::story::{Story, transient, waits};

/// As a newer version's worker, which has ended or runs beside this one, stores what it sends.
const STORED_BY_A_NEWER_VERSION: &str =
    r#"UPDATE launch_attempts SET request = request || '{"something_new": true}'"#;

#[tokio::test]
async fn what_a_newer_version_launched_is_met_by_an_older_one() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    let first = story.step(id, State::Instance).await.unwrap();
    assert!(matches!(first, Next::WaitUntil { .. }), "{first:?}");
    story.sql(STORED_BY_A_NEWER_VERSION).await;
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

#[tokio::test]
async fn what_a_newer_version_sent_without_an_answer_is_looked_for_and_not_sent() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(loses_an_answer());
    transient(story.step(id, State::Instance).await);
    story.sql(STORED_BY_A_NEWER_VERSION).await;
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
    assert_eq!(
        story
            .sim
            .ledger()
            .count(|entry| matches!(entry.event, Event::LaunchRepeated { .. })),
        0
    );
}

#[tokio::test]
async fn what_a_newer_version_sent_and_ec2_never_did_is_waited_for_and_then_launched_anew() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(Fault::new(refuses("InternalError")).times(1));
    transient(story.step(id, State::Instance).await);
    story.sql(STORED_BY_A_NEWER_VERSION).await;
    let text = waits(story.step(id, State::Instance).await);
    assert!(text.contains("a newer version of the instance-worker"), "{text}");
    assert_eq!(story.launched(), 0);
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp() - interval '1 hour'")
        .await;
    let text = transient(story.step(id, State::Instance).await);
    assert!(text.contains("launched nothing"), "{text}");
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

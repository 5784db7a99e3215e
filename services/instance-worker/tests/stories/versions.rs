//! A launch that a newer version began, met by this one: both run side by side, or all went back.

use gatewayzen_core::{Next, State};

use crate::story::{Story, waits};

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
    let id = story.launched_without_an_answer().await;
    story.sql(STORED_BY_A_NEWER_VERSION).await;
    assert_eq!(story.finds_its_machine(id).await, 0);
}

#[tokio::test]
async fn what_a_newer_version_sent_and_ec2_never_did_is_waited_for_and_then_launched_anew() {
    let story = Story::new().await;
    let id = story.failed_by_ec2().await;
    story.sql(STORED_BY_A_NEWER_VERSION).await;
    let text = waits(story.step(id, State::Instance).await);
    assert!(text.contains("a newer version of the instance-worker"), "{text}");
    // Nobody sends it any more, a newer version neither.
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp() - interval '1 minute'")
        .await;
    let text = waits(story.step(id, State::Instance).await);
    assert!(
        text.starts_with("certainty about launch attempt ") && !text.contains("a newer version"),
        "{text}"
    );
    story.launches_anew_when_the_old_is_impossible(id).await;
}

//! `terminate` ends every machine of its row, and no other.

use gatewayzen_core::{Next, State};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::faults::loses_an_answer;
use crate::story::{Story, transient, waits};

#[tokio::test]
async fn terminate_sees_the_machine_end_before_it_says_so() {
    let story = Story::new().await;
    // The look by tags would wait for it too: here it must be the look by id.
    story.sim.fault(Fault::new(FaultKind::TagLag { ms: 3_600_000 }));
    let id = story.launched_row("acme").await;
    story.write(id, State::Terminate).await;
    let text = waits(story.step(id, State::Terminate).await);
    assert!(text.contains("EC2 to terminate i-"), "{text}");
    story.to_its_end(id, State::Terminate).await;
    assert_eq!(story.sim.hosts()[0].state, "terminated");
    let row = story.row(id).await;
    assert_eq!(
        (row.instance_id, row.private_address, row.host_key_fingerprint),
        (None, None, None)
    );
}

#[tokio::test]
async fn terminate_replays_an_attempt_without_an_answer_and_ends_what_it_returns() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    // Tags that lag: the token alone must find it.
    story.sim.fault(Fault::new(FaultKind::TagLag { ms: 3_600_000 }));
    story.sim.fault(loses_an_answer());
    transient(story.step(id, State::Instance).await);
    story.write(id, State::Terminate).await;
    story.to_its_end(id, State::Terminate).await;
    assert_eq!((story.launched(), story.alive()), (1, 0));
    assert!(story.repository.launch_attempt(id).await.unwrap().is_none());
}

#[tokio::test]
async fn terminate_ends_every_machine_with_the_rows_tags_and_no_other() {
    let story = Story::new().await;
    let id = story.launched_row("acme").await;
    let other = story.launched_row("other").await;
    story.stray(id, "of-a-restored-database").await;
    story.write(id, State::Terminate).await;
    story.to_its_end(id, State::Terminate).await;
    let left: Vec<_> = story
        .sim
        .hosts()
        .into_iter()
        .filter(|host| host.state != "terminated")
        .collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].gatewayd, other.to_string());
}

#[tokio::test]
async fn terminate_of_a_row_that_never_launched_is_done_at_once() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.write(id, State::Terminate).await;
    let ended = story.step(id, State::Terminate).await;
    assert!(matches!(ended, Ok(Next::Advance { .. })), "{ended:?}");
}

#[tokio::test]
async fn terminate_of_a_machine_that_ec2_forgot_is_done_after_the_window() {
    let story = Story::new().await;
    let id = story.not_shown(State::Terminate).await;
    story.to_its_end(id, State::Terminate).await;
}

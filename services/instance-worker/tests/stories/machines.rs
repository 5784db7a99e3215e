//! Machines that die, show no address, or are not shown at all.

use gatewayzen_core::{Next, State, StepError};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::story::{Story, transient};

#[tokio::test]
async fn a_machine_that_dies_while_pending_is_replaced_and_the_reason_is_said() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(Fault::new(FaultKind::DiesPending).times(1));
    let thrown = story.until(id, State::Instance, |result| result.is_err()).await;
    let text = transient(thrown);
    assert!(text.contains("Internal error on launch"), "{text}");
    assert!(story.row(id).await.instance_id.is_none());
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 2);
}

#[tokio::test]
async fn a_machine_without_an_address_says_what_is_missing() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(Fault::new(FaultKind::NoAddress));
    let named = |result: &Result<Next, StepError>| {
        matches!(result, Ok(Next::WaitUntil { waiting_for, .. })
        if waiting_for.contains("private address") && waiting_for.contains("hosts.connect_via"))
    };
    assert!(story.until(id, State::Instance, named).await.is_ok());
}

#[tokio::test]
async fn a_machine_that_ec2_does_not_show_yet_is_waited_for_and_then_given_up() {
    let story = Story::new().await;
    let id = story.not_shown(State::Instance).await;
    let text = transient(story.step(id, State::Instance).await);
    assert!(text.contains("does not know i-"), "{text}");
    assert!(story.repository.launch_attempt(id).await.unwrap().is_none());
}

//! An attempt that cannot be sent again: found by its tags, given up in time, never mistaken for another.

use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Event, Fault};

use crate::faults::{loses_an_answer, refuses};
use crate::story::{Story, permanent, transient, waits};

#[tokio::test]
async fn what_is_too_late_to_be_sent_is_found_by_its_tags_and_not_sent() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(loses_an_answer());
    transient(story.step(id, State::Instance).await);
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp()")
        .await;
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
async fn finding_nothing_licenses_no_new_launch_before_the_old_one_is_impossible() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(Fault::new(refuses("InternalError")).times(1));
    transient(story.step(id, State::Instance).await);
    let attempt = story.repository.launch_attempt(id).await.unwrap().unwrap();
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp()")
        .await;
    let text = waits(story.step(id, State::Instance).await);
    assert!(
        text.contains(&attempt.id.to_string()) && text.contains("UTC"),
        "{text}"
    );
    assert_eq!(story.launched(), 0);
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp() - interval '1 hour'")
        .await;
    let text = transient(story.step(id, State::Instance).await);
    assert!(text.contains("launched nothing"), "{text}");
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

#[tokio::test]
async fn another_request_under_the_token_is_never_adopted_but_can_be_ended() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(loses_an_answer());
    transient(story.step(id, State::Instance).await);
    story
        .sql("UPDATE launch_attempts SET request = jsonb_set(request, '{key_name}', '\"other\"')")
        .await;
    let text = permanent(story.step(id, State::Instance).await);
    assert!(
        text.contains("IdempotentParameterMismatch") && text.contains("Do not retry blindly"),
        "{text}"
    );
    assert!(story.repository.launch_attempt(id).await.unwrap().is_some());
    story.write(id, State::Terminate).await;
    story.to_its_end(id, State::Terminate).await;
    assert_eq!(story.alive(), 0);
}

#[tokio::test]
async fn two_machines_of_one_attempt_are_a_fault_and_terminate_ends_both() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(loses_an_answer());
    transient(story.step(id, State::Instance).await);
    let attempt = story.repository.launch_attempt(id).await.unwrap().unwrap();
    story.stray(id, &attempt.id.to_string()).await;
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp()")
        .await;
    let text = permanent(story.step(id, State::Instance).await);
    assert!(
        story.sim.hosts().iter().all(|host| text.contains(&host.instance)),
        "{text}"
    );
    story.write(id, State::Terminate).await;
    story.to_its_end(id, State::Terminate).await;
    assert_eq!(story.alive(), 0);
    assert_eq!(story.launched(), 2);
}

//! An attempt that cannot be sent again: found by its tags, given up in time, never mistaken for another.

use gatewayzen_core::State;

use crate::story::{Story, permanent, waits};

#[tokio::test]
async fn what_is_too_late_to_be_sent_is_found_by_its_tags_and_not_sent() {
    let story = Story::new().await;
    let id = story.launched_without_an_answer().await;
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp()")
        .await;
    assert_eq!(story.finds_its_machine(id).await, 0);
}

#[tokio::test]
async fn finding_nothing_licenses_no_new_launch_before_the_old_one_is_impossible() {
    let story = Story::new().await;
    let id = story.failed_by_ec2().await;
    let attempt = story.repository.launch_attempt(id).await.unwrap().unwrap();
    story
        .sql("UPDATE launch_attempts SET send_until = clock_timestamp()")
        .await;
    let text = waits(story.step(id, State::Instance).await);
    assert!(
        text.contains(&attempt.id.to_string()) && text.contains("UTC"),
        "{text}"
    );
    story.launches_anew_when_the_old_is_impossible(id).await;
}

#[tokio::test]
async fn another_request_under_the_token_is_never_adopted_but_can_be_ended() {
    let story = Story::new().await;
    let id = story.launched_without_an_answer().await;
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
    let id = story.launched_without_an_answer().await;
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

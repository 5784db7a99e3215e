//! EC2 refuses, or is not there.

use gatewayzen_core::{State, StepError};
use integration_tests::simulated_fleet::{DEFAULT_IMAGE, Fault};

use crate::faults::refuses;
use crate::story::{Story, permanent, transient};

#[tokio::test]
async fn a_golden_ami_that_does_not_exist_is_named_with_its_setting() {
    let mut story = Story::new().await;
    story.change(|settings| settings.ec2.ami = "ami-00000000deadbeef".into());
    let id = story.launch("acme").await;
    let text = permanent(story.step(id, State::Instance).await);
    for part in ["ami-00000000deadbeef", "InvalidAMIID.NotFound", "ec2.ami"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    // EC2 refused the only send of the attempt, so nothing stands in the way of another.
    story.change(|settings| settings.ec2.ami = DEFAULT_IMAGE.into());
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

#[tokio::test]
async fn a_refusal_for_capacity_is_tried_again_with_another_attempt() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story
        .sim
        .fault(Fault::new(refuses("InsufficientInstanceCapacity")).times(1));
    let text = transient(story.step(id, State::Instance).await);
    assert!(
        text.contains("InsufficientInstanceCapacity") && text.contains("t3.small"),
        "{text}"
    );
    assert!(story.repository.launch_attempt(id).await.unwrap().is_none());
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

#[tokio::test]
async fn bad_credentials_and_a_throttled_account_are_no_rows_failure() {
    let mut story = Story::new().await;
    let id = story.launch("acme").await;
    story
        .sim
        .fault(Fault::new(refuses("RequestLimitExceeded")).times(1));
    let thrown = story.step(id, State::Instance).await;
    assert!(
        matches!(&thrown, Err(StepError::Environment(p)) if p.sentence.contains("RequestLimitExceeded")),
        "{thrown:?}"
    );
    story.log_in("somebody else").await;
    let thrown = story.step(id, State::Instance).await;
    assert!(
        matches!(&thrown, Err(StepError::Environment(p)) if p.sentence.contains("AuthFailure")),
        "{thrown:?}"
    );
    story.log_in("").await;
    let thrown = story.step(id, State::Instance).await;
    assert!(
        matches!(&thrown, Err(StepError::Environment(p)) if p.sentence.contains("finds no AWS credentials")),
        "{thrown:?}"
    );
    story.log_in("simulated").await;
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
}

#[tokio::test]
async fn ec2_that_is_not_there_is_said() {
    let mut story = Story::new().await;
    let id = story.launch("acme").await;
    story.dial("http://127.0.0.1:1").await;
    // What volumes the AMI brings is asked for first, and nothing is stored yet.
    let text = transient(story.step(id, State::Instance).await);
    assert!(
        text.contains("EC2 did not answer DescribeImages") && text.contains("refused"),
        "{text}"
    );
}

//! The two steps against the simulated fleet, with a database of each story's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping it"
)]

mod story;

use std::time::Duration;

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use gatewayzen_core::{Next, State, StepError};
use integration_tests::simulated_fleet::{DEFAULT_IMAGE, Event, Fault, FaultKind};
use story::{Story, permanent, transient, waits};

fn run_instances() -> Option<String> {
    Some("RunInstances".to_owned())
}

fn refuses(code: &str) -> FaultKind {
    FaultKind::Ec2Error {
        code: code.to_owned(),
        action: run_instances(),
    }
}

#[tokio::test]
async fn a_row_gets_one_running_machine_that_is_known_before_it_is_met() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    let Next::Advance { facts, done } = story.to_its_end(id, State::Instance).await else {
        panic!()
    };
    let host = &story.sim.hosts()[0];
    let address = host.address.unwrap().to_string();
    assert_eq!(facts.private_address.as_deref(), Some(address.as_str()));
    assert_eq!(facts.public_address.as_deref(), Some(address.as_str()));
    assert!(done.contains(&host.instance) && done.contains(&address), "{done}");
    let key = story
        .repository
        .launch_attempt(id)
        .await
        .unwrap()
        .unwrap()
        .host_key;
    assert_eq!(
        facts.host_key_fingerprint,
        Some(instance_worker::host_key::fingerprint(&key).unwrap())
    );
    assert_eq!(
        story.row(id).await.instance_id.as_deref(),
        Some(host.instance.as_str())
    );

    let entries = story.sim.ledger().entries();
    let [tags] = story::launches(&entries)[..] else {
        panic!("not one launch")
    };
    assert_eq!(tags["Name"], "gatewayzen:gatewayd");
    assert_eq!(tags["gatewayzen:gatewayd"], id.to_string());
    assert_eq!(
        tags["gatewayzen:fleet"],
        story.repository.fleet_id().await.unwrap().to_string()
    );
    let attempt = story.repository.launch_attempt(id).await.unwrap().unwrap();
    assert_eq!(tags["gatewayzen:attempt"], attempt.id.to_string());
}

#[tokio::test]
async fn a_lost_answer_is_replayed_whatever_the_configuration_says_by_then() {
    let mut story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
    let text = transient(story.step(id, State::Instance).await);
    assert!(text.contains("RunInstances"), "{text}");
    story.change(|settings| {
        settings.ec2.instance_type = "t3.large".into();
        settings.ec2.key_name = "another".into();
    });
    story.to_its_end(id, State::Instance).await;
    assert_eq!(story.launched(), 1);
    assert_eq!(
        story
            .sim
            .ledger()
            .count(|entry| matches!(entry.event, Event::LaunchRepeated { .. })),
        1
    );
}

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
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
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

#[tokio::test]
async fn a_step_killed_at_any_moment_never_makes_a_second_machine() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    let mut cut = 0;
    // Each time a little later, until a whole step fits in.
    for tenths in 0.. {
        match story
            .step_for(id, State::Instance, Duration::from_micros(100 * tenths))
            .await
        {
            None => cut += 1,
            Some(Ok(Next::Advance { .. })) => break,
            Some(Ok(Next::WaitUntil { .. }) | Err(StepError::Transient(_))) => {}
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(cut > 5, "only {cut} steps were killed");
    assert_eq!(story.launched(), 1);
}

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
    let id = story.launch("acme").await;
    story
        .sim
        .fault(Fault::new(FaultKind::IdLag { ms: 3_600_000 }).times(1));
    story.step(id, State::Instance).await.unwrap();
    let text = waits(story.step(id, State::Instance).await);
    assert!(text.contains("EC2 to show i-"), "{text}");
    story
        .sql("UPDATE launch_attempts SET instance_known_at = instance_known_at - interval '1 hour'")
        .await;
    let text = transient(story.step(id, State::Instance).await);
    assert!(text.contains("does not know i-"), "{text}");
    assert!(story.repository.launch_attempt(id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_too_late_to_be_sent_is_found_by_its_tags_and_not_sent() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
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
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
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
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
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

#[tokio::test]
async fn a_worker_whose_row_was_rewritten_launches_nothing() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    let context = story.context(id, State::Instance).await;
    story.write(id, State::Terminate).await;
    let thrown = story.take(&context).await;
    assert!(matches!(thrown, Err(StepError::Overtaken)), "{thrown:?}");
    assert_eq!(story.launched(), 0);
}

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
    story.sim.fault(
        Fault::new(FaultKind::Ec2LosesReply {
            action: run_instances(),
        })
        .times(1),
    );
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
    let id = story.launch("acme").await;
    story
        .sim
        .fault(Fault::new(FaultKind::IdLag { ms: 3_600_000 }).times(1));
    story.step(id, State::Instance).await.unwrap();
    story.write(id, State::Terminate).await;
    let text = waits(story.step(id, State::Terminate).await);
    assert!(text.contains("EC2 to show i-"), "{text}");
    story
        .sql("UPDATE launch_attempts SET instance_known_at = instance_known_at - interval '1 hour'")
        .await;
    story.to_its_end(id, State::Terminate).await;
}

impl Story {
    /// A machine that GatewayZen did not launch, with a row's tags.
    async fn stray(&self, id: i64, attempt: &str) {
        let fleet = self.repository.fleet_id().await.unwrap().to_string();
        let tags = [
            ("gatewayzen:fleet", fleet.as_str()),
            ("gatewayzen:gatewayd", &id.to_string()),
            ("gatewayzen:attempt", attempt),
        ];
        let tags = tags
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .to_vec();
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Instance)
            .set_tags(Some(tags))
            .build();
        let call = self
            .client
            .run_instances()
            .image_id(DEFAULT_IMAGE)
            .min_count(1)
            .max_count(1);
        call.tag_specifications(tags).send().await.unwrap();
    }
}

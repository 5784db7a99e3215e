//! One machine for one row, whatever becomes of the answer or of the worker.

use std::time::Duration;

use gatewayzen_core::{Next, State, StepError};

use crate::story::{self, Story};

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
    let id = story.launched_without_an_answer().await;
    story.change(|settings| {
        settings.ec2.instance_type = "t3.large".into();
        settings.ec2.key_name = "another".into();
    });
    assert_eq!(story.finds_its_machine(id).await, 1);
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
async fn a_worker_whose_row_was_rewritten_launches_nothing() {
    let story = Story::new().await;
    let id = story.launch("acme").await;
    let context = story.context(id, State::Instance).await;
    story.write(id, State::Terminate).await;
    let thrown = story.take(&context).await;
    assert!(matches!(thrown, Err(StepError::Overtaken)), "{thrown:?}");
    assert_eq!(story.launched(), 0);
}

//! What the fleet asks of EC2 is what `deploy/iam-policy.json` allows, neither more nor less, and machines are launched as
//! its conditions want them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeSet;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Disk, Fault, FaultKind};
use serde_json::Value;

fn policy(name: &str) -> Value {
    let path = format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A text or a list of them.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().map(|text| text.as_str().unwrap()).collect(),
        other => panic!("neither a text nor a list: {other}"),
    }
}

fn statements(policy: &Value) -> &Vec<Value> {
    assert_eq!(policy["Version"], "2012-10-17");
    policy["Statement"].as_array().unwrap()
}

#[tokio::test]
async fn what_is_asked_of_ec2_is_what_the_policy_allows() {
    let bed = Bed::new(Options {
        settings: "sweep.grace = \"1ms\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    for (to, ends_in) in [(State::Stop, State::Stopped), (State::Start, State::Live)] {
        bed.write_state(id, to).await.unwrap();
        bed.reached(id, ends_in).await;
    }
    let update = "UPDATE gatewayds SET state = 'update', release = 'v3.34.2' WHERE id = $1";
    sqlx::query(update)
        .bind(id)
        .execute(&bed.database.app)
        .await
        .unwrap();
    bed.reached(id, State::Stopped).await;
    // One that has no wallet, so that nothing speaks against its end.
    let ended = bed
        .launch_after("ended", |id| {
            bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id))
        })
        .await;
    bed.parked(ended).await;
    bed.write_state(ended, State::Terminate).await.unwrap();
    bed.reached(ended, State::Terminated).await;
    // A launch whose answer is lost is looked for and asked for again.
    let lost = FaultKind::Ec2LosesReply {
        action: Some("RunInstances".into()),
    };
    let again = bed
        .launch_after("lost", |id| bed.fleet.fault(Fault::new(lost).on(id).times(1)))
        .await;
    bed.reached(again, State::Live).await;
    // Sweeps: one that marks a stray and one that ends it; and the doctor.
    let fleet = bed.database.text("SELECT id::text FROM fleet").await;
    let tags = [
        ("gatewayzen:fleet", fleet.as_str()),
        ("gatewayzen:gatewayd", &ended.to_string()),
    ];
    let attempt: String = sqlx::query_scalar("SELECT id::text FROM launch_attempts WHERE gatewayd_id = $1")
        .bind(ended)
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
    let stray = bed
        .fleet
        .launch(&[&tags[..], &[("gatewayzen:attempt", &attempt)]].concat())
        .unwrap();
    eventually("the stray to be ended by a sweep", async || {
        let _ = bed.gatewayzen(&["sweep", "--act"]).await;
        let hosts = bed.fleet.hosts();
        let found = hosts.iter().find(|host| host.instance == stray).unwrap();
        (found.state == "terminated" || found.state == "shutting-down").then_some(())
    })
    .await;
    let _ = bed.gatewayzen(&["doctor"]).await;

    let allowed: BTreeSet<String> = statements(&policy("iam-policy.json"))
        .iter()
        .flat_map(|statement| texts(&statement["Action"]))
        .map(|action| action.strip_prefix("ec2:").expect("EC2's alone").to_owned())
        .collect();
    assert_eq!(bed.fleet.ec2_calls(), allowed);

    // What the conditions of the policy want of a launch, each of ours has.
    let own: Vec<_> = bed
        .fleet
        .hosts()
        .into_iter()
        .filter(|host| host.instance != stray)
        .collect();
    assert_eq!(own.len(), 3);
    for host in own {
        let disk = Disk {
            device: "/dev/sda1".into(),
            encrypted: true,
        };
        assert_eq!(
            (host.disks, host.metadata_tokens.as_str()),
            (vec![disk], "required")
        );
    }
}

#[test]
fn whatever_changes_something_is_bound_to_the_fleet() {
    let policy = policy("iam-policy.json");
    let mut sids = BTreeSet::new();
    for statement in statements(&policy) {
        let sid = statement["Sid"].as_str().unwrap();
        assert!(
            sids.insert(sid) && sid.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{sid}"
        );
        assert_eq!(statement["Effect"], "Allow");
        let actions = texts(&statement["Action"]);
        let resources = texts(&statement["Resource"]);
        assert!(actions.iter().all(|action| !action.contains('*')), "{sid}");
        if actions.iter().all(|action| action.starts_with("ec2:Describe")) {
            // EC2 lets nobody narrow these.
            assert_eq!(resources, ["*"]);
            continue;
        }
        assert!(
            resources
                .iter()
                .all(|resource| resource.starts_with("arn:aws:ec2:")),
            "{sid}"
        );
        let condition = statement["Condition"].to_string();
        let of_the_fleet = condition.contains("Tag/gatewayzen:fleet\":\"FLEET-UUID\"");
        // What a launch uses and does not make carries no tag of ours.
        assert!(of_the_fleet || sid == "LaunchFromAndInto", "{sid}: {condition}");
    }
    let optional = self::policy("iam-policy-optional.json");
    for statement in statements(&optional) {
        assert!(
            texts(&statement["Resource"])
                .iter()
                .all(|resource| *resource != "*"),
            "{statement}"
        );
    }
}

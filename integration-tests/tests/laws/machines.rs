//! One machine for one gatewayd, whatever EC2 answers and whoever dies.

use std::collections::BTreeMap;

use gatewayzen_core::State;
use integration_tests::harness::eventually;
use integration_tests::simulated_fleet::{Config, Event, Fault, FaultKind, Times};

use crate::witness::{count, nothing_is_broken};
use crate::workers::{Killer, bed, new_row};

const ROWS: usize = 16;

/// An EC2 that loses answers, shows machines late, refuses, throttles, and lets machines die.
fn unreliable() -> Config {
    let runs = || Some("RunInstances".to_owned());
    let error = |code: &str| FaultKind::Ec2Error {
        code: code.into(),
        action: runs(),
    };
    let at = |fault, probability| Fault {
        probability,
        ..Fault::new(fault)
    };
    Config {
        faults: vec![
            at(FaultKind::Ec2LosesReply { action: runs() }, 0.4),
            at(
                FaultKind::Ec2LosesReply {
                    action: Some("TerminateInstances".into()),
                },
                0.3,
            ),
            at(FaultKind::IdLag { ms: 800 }, 0.5),
            at(FaultKind::TagLag { ms: 800 }, 0.5),
            at(FaultKind::DiesPending, 0.2),
            at(error("InsufficientInstanceCapacity"), 0.1),
            at(error("RequestLimitExceeded"), 0.1),
        ],
        times: Times {
            terminated_visible_ms: 500,
            ..Times::default()
        },
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_machine_for_one_gatewayd() {
    let bed = bed(unreliable(), "").await;
    let mut rows = Vec::new();
    for n in 0..ROWS {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    // Half of the rows lose a worker around the launch, at another moment each.
    let moments = [
        "instance:open_launch_attempt:before",
        "instance:open_launch_attempt:after",
        "instance:RunInstances:before",
        "instance:RunInstances:after",
        "instance:resolve_launch_attempt:before",
        "instance:resolve_launch_attempt:after",
        "terminate:TerminateInstances:before",
        "terminate:TerminateInstances:after",
    ];
    let stops: BTreeMap<String, usize> = rows
        .iter()
        .zip(moments)
        .map(|(id, moment)| (format!("{id}:{moment}"), 2))
        .collect();
    let mut killer = Killer::start(&bed, stops);
    // Two more of each: nobody waits for the killed ones.
    let _others = ["dispatcher", "instance-worker", "ssh-worker"].map(|name| bed.start(name));
    let queue = bed.queue().await;
    let story = async {
        for id in &rows {
            bed.write_state(*id, State::Instance).await.unwrap();
            // Anybody may push the same job as often as they like.
            for _ in 0..3 {
                let payload = format!(r#"{{"class":"initializeEc2Instance","args":[{id}]}}"#);
                queue
                    .push("initializeEc2Instance", payload.as_bytes())
                    .await
                    .unwrap();
            }
        }
        // A customer leaves in mid-launch: a quarter of the rows is ended wherever it stands, and built anew.
        for id in rows.iter().step_by(4) {
            eventually("a machine", async || {
                (count(&bed, *id, |event| matches!(event, Event::Launched { .. })) > 0).then_some(())
            })
            .await;
            // Refused for the moment in which its wallet is kept and its copy is not yet.
            eventually("the end to be accepted", async || {
                bed.write_state(*id, State::Terminate).await.ok()
            })
            .await;
        }
        for id in rows.iter().step_by(4) {
            bed.reached(*id, State::Terminated).await;
            bed.write_state(*id, State::Instance).await.unwrap();
        }
        for id in &rows {
            bed.reached(*id, State::Live).await;
        }
        // And all are ended, and half is built anew.
        for id in &rows {
            bed.write_state(*id, State::Terminate).await.unwrap();
        }
        for id in &rows {
            bed.reached(*id, State::Terminated).await;
        }
        for id in rows.iter().step_by(2) {
            bed.write_state(*id, State::Instance).await.unwrap();
            bed.reached(*id, State::Live).await;
        }
    };
    killer.until(story).await;
    let repeated = bed
        .fleet
        .ledger()
        .count(|e| matches!(e.event, Event::LaunchRepeated { .. }));
    println!(
        "{} SIGKILLs, {repeated} launches repeated under their token",
        killer.kills
    );
    nothing_is_broken(&bed).await;
    assert!(killer.kills > 0 && repeated > 0, "nothing was put to the test");
}

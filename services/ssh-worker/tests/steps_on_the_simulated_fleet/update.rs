//! `update`: another release is in place, and nothing runs.

use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::bench::Bench;
use crate::words::{permanent, says, some, transient};

#[tokio::test]
async fn an_update_is_verified_and_leaves_nothing_running() {
    let bench = Bench::in_state(State::Update).await;
    says(&permanent(bench.step().await), &["column release is empty"]);
    bench.execute("UPDATE gatewayds SET release = 'v3.34.2'").await;
    bench.fault(FaultKind::KeepsOldRelease);
    let text = transient(bench.step().await);
    says(
        &text,
        &[
            "v3.34.2 was asked for",
            "version 3.33.0 is in place",
            &bench.address,
        ],
    );
    assert_eq!(bench.row().await.release_in_place.as_deref(), Some("3.33.0"));
    bench.fleet.clear_faults();
    says(
        &bench.step().await.unwrap(),
        &["v3.34.2 in place", "nothing runs"],
    );
    let row = bench.row().await;
    assert_eq!(
        (row.state, row.release_in_place.as_deref()),
        (State::Stopped, Some("3.34.2"))
    );
    assert!(bench.host().pids.is_empty() && bench.host().release == "v3.34.2");
}

#[tokio::test]
async fn an_update_survives_a_lost_reply_of_each_of_its_commands() {
    let bench = Bench::in_state(State::Update).await;
    bench.execute("UPDATE gatewayds SET release = 'v3.34.2'").await;
    for command in [
        "stop",
        "processes",
        "fetch",
        "checkout",
        "install",
        "migrate",
        "release",
    ] {
        bench.fleet.fault(
            Fault::new(FaultKind::CommandLosesReply {
                command: some(command),
            })
            .times(1),
        );
        says(
            &transient(bench.step().await),
            &[&format!("`{command}` on host"), "ended in mid-command"],
        );
    }
    bench.step().await.unwrap();
    assert_eq!(bench.row().await.state, State::Stopped);
}

#[tokio::test]
async fn an_unknown_tag_is_a_fault_that_names_it() {
    let bench = Bench::in_state(State::Update).await;
    bench.execute("UPDATE gatewayds SET release = 'v9.9.9'").await;
    says(
        &permanent(bench.step().await),
        &["no tag v9.9.9", &bench.address, "column release"],
    );
    assert_eq!(bench.host().release, "v3.33.0");
}

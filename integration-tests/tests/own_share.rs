//! How much of a walk's time is GatewayZen's own. Alone in its file: tests of one file run side by side, and would be
//! measured with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options};
use integration_tests::simulated_fleet::{Config, Times};

/// The whole walk, waiting and polling included, less what the simulation itself took.
#[tokio::test]
async fn our_own_share_of_a_walk_is_under_a_second_and_half_a_poll() {
    const WALKS: usize = 21;
    let poll = Duration::from_secs(1);
    let bed = Bed::new(Options {
        fleet: Config { times: Times { boot_ms: 3000, ssh_ms: 1000, jitter: 0.3, ..Times::default() }, ..Config::default() },
        settings: "ec2.poll = \"1s\"\nworker.lease = \"10s\"\ndispatcher.period = \"1s\"\nworker.look_again = \"10s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let mut ids = Vec::new();
    // One after the other, as a fleet's writes come: what is measured is the way of one row, not a queue of them.
    let mut next = tokio::time::interval(Duration::from_millis(400));
    for n in 0..WALKS {
        next.tick().await;
        ids.push(bed.launch_after(&format!("walk-{n}"), |_| {}).await);
    }
    let mut ours = Vec::new();
    for id in ids {
        bed.reached(id, State::Live).await;
        let history = bed.repository.history(id).await.unwrap();
        let whole = (history.last().unwrap().at - history[0].at).unsigned_abs();
        let simulated = bed.fleet.ledger().simulated_times()[&id.to_string()].total();
        ours.push(whole.saturating_sub(simulated));
    }
    ours.sort();
    println!(
        "GatewayZen's own share of {WALKS} walks from new to live: {:?} at the median, {:?} to {:?}",
        ours[WALKS / 2],
        ours[0],
        ours[WALKS - 1]
    );
    assert!(ours[WALKS / 2] < Duration::from_secs(1) + poll / 2, "{ours:?}");
}

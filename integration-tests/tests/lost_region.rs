//! The runbook "A region" of docs/recovery.md: every machine is gone at once, and the fleet is built anew in another region.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeSet;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options};
use integration_tests::simulated_fleet::Event;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_region_is_built_anew_elsewhere_with_the_same_wallets() {
    let mut bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let (acme, beta) = (bed.launch("acme").await, bed.launch("beta").await);
    let mut before = Vec::new();
    for id in [acme, beta] {
        before.push(bed.reached(id, State::Live).await);
    }
    drop(services);
    bed.lose_region().await;
    bed.gatewayzen(&["halt", "--why", "the region is gone"])
        .await
        .unwrap();
    let _services = bed.start_all();

    // Nobody takes an empty region for the end of the fleet: a look at it changes no row.
    let told = bed.gatewayzen(&["sweep"]).await.unwrap();
    for part in ["2 rows without a machine", "EC2 does not show it"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    for row in &before {
        let now = bed.row(row.id).await;
        assert_eq!((now.state, &now.fault), (State::Live, &None));
    }

    // Ending them works though the fleet is halted; each wallet has its copy, so nothing has to be overridden.
    bed.database
        .write("UPDATE gatewayds SET state = 'terminate' WHERE state NOT IN ('new', 'terminated')")
        .await;
    for id in [acme, beta] {
        bed.reached(id, State::Terminated).await;
    }
    bed.database
        .write("UPDATE gatewayds SET state = 'instance' WHERE state = 'terminated'")
        .await;
    bed.gatewayzen(&["resume", "--fleet", "--why", "on with the other region"])
        .await
        .unwrap();
    for old in before {
        let new = bed.reached(old.id, State::Live).await;
        assert_ne!(new.instance_id, old.instance_id);
        assert_eq!(new.ripple_address, old.ripple_address);
    }
    let launched = bed.fleet.ledger().entries().into_iter();
    let launched: Vec<String> = launched
        .filter(|entry| matches!(entry.event, Event::Launched { .. }))
        .map(|entry| entry.gatewayd)
        .collect();
    assert_eq!(launched.len(), 2, "{launched:?}");
    assert_eq!(launched.into_iter().collect::<BTreeSet<_>>().len(), 2);
}

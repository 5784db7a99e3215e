//! What the two witnesses say: the ledger of the simulated fleet, and the database.

use std::collections::BTreeMap;

use integration_tests::harness::Bed;
pub(crate) use integration_tests::judge::nothing_is_broken;
use integration_tests::judge::{self, Evidence};
use integration_tests::simulated_fleet::Event;

/// Every history is a path of the state machine, each move by whom it belongs to.
pub(crate) async fn legal_histories(bed: &Bed) {
    let evidence = Evidence::gather(bed, BTreeMap::new()).await;
    judge::must_be_none(&evidence, &judge::every_history_is_a_legal_path(&evidence));
}

/// How often something happened to a row.
pub(crate) fn count(bed: &Bed, id: i64, is: impl Fn(&Event) -> bool) -> usize {
    let id = id.to_string();
    bed.fleet
        .ledger()
        .count(|entry| entry.gatewayd == id && is(&entry.event))
}

//! What the two witnesses say: the ledger of the simulated fleet, and the database.

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::State;
use integration_tests::harness::{Bed, eventually};
use integration_tests::judge::{self, Broken, Evidence};
use integration_tests::simulated_fleet::Event;

/// Every law that can be judged at the end of any story, over all rows. Panics with what is broken.
pub(crate) async fn nothing_is_broken(bed: &Bed) {
    let evidence = Evidence::gather(bed, BTreeMap::new()).await;
    none(&evidence, &judge::broken(&evidence));
    // Nothing dies by itself at the end of these stories: what lives is what the rows name.
    let alive: BTreeSet<&str> = evidence
        .hosts
        .iter()
        .filter(|host| host.state != "terminated")
        .map(|host| host.instance.as_str())
        .collect();
    let named: BTreeSet<&str> = evidence
        .rows
        .values()
        .filter_map(|row| row.instance_id.as_deref())
        .collect();
    assert_eq!(alive, named, "the machines alive, and those that the rows name");
    let live = |row: &&gatewayzen_core::Gatewayd| row.state == State::Live && row.fault.is_none();
    for row in evidence.rows.values().filter(live) {
        let host = evidence.host(row).expect("a live row's machine");
        assert_eq!(host.running_wallet, row.ripple_address, "row {}: running", row.id);
    }
    nothing_hangs_in_redis(bed).await;
}

/// Every history is a path of the state machine, each move by whom it belongs to.
pub(crate) async fn legal_histories(bed: &Bed) {
    let evidence = Evidence::gather(bed, BTreeMap::new()).await;
    none(&evidence, &judge::every_history_is_a_legal_path(&evidence));
}

fn none(evidence: &Evidence, broken: &[Broken]) {
    let first = broken.first().and_then(|one| one.row);
    assert!(
        broken.is_empty(),
        "{broken:#?}
{}",
        first.map(|row| evidence.about(row)).unwrap_or_default()
    );
}

/// No job is left over, and none is in somebody's hands.
async fn nothing_hangs_in_redis(bed: &Bed) {
    let queue = bed.queue().await;
    eventually("Redis to hold no job", async || {
        for step in gatewayzen_core::Step::ALL {
            if queue.len(step.queue()).await.ok()? > 0 {
                return None;
            }
        }
        let leased: i64 =
            sqlx::query_scalar("SELECT count(*) FROM gatewayds WHERE lease_until > clock_timestamp()")
                .fetch_one(&bed.database.admin)
                .await
                .ok()?;
        (leased == 0).then_some(())
    })
    .await;
}

/// How often something happened to a row.
pub(crate) fn count(bed: &Bed, id: i64, is: impl Fn(&Event) -> bool) -> usize {
    let id = id.to_string();
    bed.fleet
        .ledger()
        .count(|entry| entry.gatewayd == id && is(&entry.event))
}

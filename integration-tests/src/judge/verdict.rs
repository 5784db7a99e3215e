//! The verdict that is given at the end of every story.

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::{Gatewayd, State, Step};

use super::{Broken, Evidence, broken};
use crate::harness::{Bed, eventually};

/// Every law that can be judged at the end of any story, over all rows. Panics with what is broken.
pub async fn nothing_is_broken(bed: &Bed) {
    let evidence = Evidence::gather(bed, BTreeMap::new()).await;
    must_be_none(&evidence, &broken(&evidence));
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
    let live = |row: &&Gatewayd| row.state == State::Live && row.fault.is_none();
    for row in evidence.rows.values().filter(live) {
        let host = evidence.host(row).expect("a live row's machine");
        assert_eq!(host.running_wallet, row.ripple_address, "row {}: running", row.id);
    }
    nothing_hangs_in_redis(bed).await;
}

/// Panics with what is broken, and the story of the first row of which something is.
pub fn must_be_none(evidence: &Evidence, broken: &[Broken]) {
    let first = broken.first().and_then(|one| one.row);
    assert!(
        broken.is_empty(),
        "{broken:#?}\n{}",
        first.map(|row| evidence.about(row)).unwrap_or_default()
    );
}

/// No job is left over, and none is in somebody's hands.
async fn nothing_hangs_in_redis(bed: &Bed) {
    let queue = bed.queue().await;
    eventually("Redis to hold no job", async || {
        for step in Step::ALL {
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

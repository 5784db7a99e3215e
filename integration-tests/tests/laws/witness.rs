//! What the two witnesses say: the ledger of the simulated fleet, and the database.

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::State;
use integration_tests::harness::{Bed, eventually};
use integration_tests::simulated_fleet::{Entry, Event};

/// Every law that can be judged at the end of any story, over all rows. Panics with what is broken.
pub(crate) async fn nothing_is_broken(bed: &Bed) {
    one_machine(bed).await;
    one_wallet(bed).await;
    legal_histories(bed).await;
    nothing_hangs_in_redis(bed).await;
}

async fn ids(bed: &Bed) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM gatewayds ORDER BY id")
        .fetch_all(&bed.database.admin)
        .await
        .unwrap()
}

/// At no moment did a row have two machines alive; now it has the one that it names, or none; and no machine lives
/// that no row names.
pub(crate) async fn one_machine(bed: &Bed) {
    let mut alive = BTreeMap::<String, BTreeSet<String>>::new();
    for Entry {
        at_ms,
        gatewayd,
        instance,
        event,
    } in bed.fleet.ledger().entries()
    {
        let machines = alive.entry(gatewayd.clone()).or_default();
        match event {
            Event::Launched { .. } => {
                machines.insert(instance);
                assert_eq!(
                    machines.len(),
                    1,
                    "row {gatewayd} at {at_ms} ms: two machines at once, {machines:?}"
                );
            }
            Event::Died | Event::Terminated => {
                machines.remove(&instance);
            }
            _ => {}
        }
    }
    for id in ids(bed).await {
        let row = bed.row(id).await;
        let machines = alive.remove(&id.to_string()).unwrap_or_default();
        let named: BTreeSet<String> = row.instance_id.into_iter().collect();
        assert_eq!(
            machines, named,
            "row {id}, {}: the machines alive, and the one that it names",
            row.state
        );
    }
    alive.retain(|_, machines| !machines.is_empty());
    assert!(alive.is_empty(), "machines without a row: {alive:?}");
}

/// Over all its machines a row's servers heard one cold wallet: the one that is kept. A live server has saved it.
pub(crate) async fn one_wallet(bed: &Bed) {
    let kept: BTreeMap<i64, String> = sqlx::query_as("SELECT gatewayd_id, address FROM wallets")
        .fetch_all(&bed.database.admin)
        .await
        .unwrap()
        .into_iter()
        .collect();
    for entry in bed.fleet.ledger().entries() {
        let (Event::WalletSet { address } | Event::WalletSaved { address }) = entry.event else {
            continue;
        };
        let row: i64 = entry.gatewayd.parse().unwrap();
        assert_eq!(
            kept.get(&row),
            Some(&address),
            "row {row}: what its server heard, and what is kept"
        );
    }
    let hosts = bed.fleet.hosts();
    for id in ids(bed).await {
        let row = bed.row(id).await;
        assert_eq!(row.ripple_address.as_ref(), kept.get(&id), "row {id}");
        if row.state == State::Live && row.fault.is_none() {
            let host = hosts
                .iter()
                .find(|host| Some(&host.instance) == row.instance_id.as_ref())
                .expect("a live row's machine");
            assert!(row.ripple_address.is_some());
            assert_eq!(host.saved_wallet, row.ripple_address, "row {id}: saved");
            assert_eq!(host.running_wallet, row.ripple_address, "row {id}: running");
        }
    }
}

/// Every history is a path of the state machine, each move by whom it belongs to, generations only growing.
pub(crate) async fn legal_histories(bed: &Bed) {
    use gatewayzen_core::state::Mover;
    for id in ids(bed).await {
        let (mut at, mut generation) = (None, 0);
        for entry in bed.repository.history(id).await.unwrap() {
            let to: State = entry.to_state.parse().unwrap();
            assert!(
                entry.generation >= generation,
                "row {id}: {entry:?} after generation {generation}"
            );
            generation = entry.generation;
            if entry.event == "moved" {
                let from: State = entry.from_state.as_deref().unwrap().parse().unwrap();
                assert_eq!(
                    Some(from),
                    at,
                    "row {id}: {entry:?} does not begin where the last move ended"
                );
                let by = if entry.by.starts_with("gatewayzen_") {
                    Mover::External
                } else {
                    Mover::Worker
                };
                assert_eq!(from.mover(to), Some(by), "row {id}: {entry:?}");
            }
            at = Some(to);
        }
        assert_eq!(
            at,
            Some(bed.row(id).await.state),
            "row {id}: the history's end and the row"
        );
    }
}

/// No job is left over, and none is in somebody's hands.
pub(crate) async fn nothing_hangs_in_redis(bed: &Bed) {
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

//! Every step survives a SIGKILL at every moment before and after each of its effects.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Config, Event, Fault, FaultKind};

use crate::witness::{count, nothing_is_broken};
use crate::workers::{Killer, bed, new_row, scout, walk_round};

/// Rows side by side. Neighbouring points fall to different rows, so each row dies in many steps, and the recovery from
/// one crash runs into the next.
const ROWS: usize = 16;

/// How many rows walk round at most, one after the other, until somebody has died at each point of the first.
const ROUNDS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_survives_a_crash() {
    let points = scout().await;
    for state in State::ALL.into_iter().filter(|state| state.is_working()) {
        let prefix = format!("{state}:");
        let met = points.iter().filter(|point| point.starts_with(&prefix)).count();
        assert!(met >= 6, "only {met} crash points in {state}: {points:#?}");
    }
    assert!(
        points.len() >= 80,
        "only {} crash points: {points:#?}",
        points.len()
    );

    let bed = bed(Config::default(), "").await;
    let mut rows = Vec::new();
    for n in 0..ROWS {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    // In one step of these rows the lease has to be renewed, again and again: its renewal is an effect too.
    let slow_key = |id: i64| {
        let slow = FaultKind::CommandHeldUp {
            command: Some("get_key".into()),
            ms: 3000,
        };
        bed.fleet.fault(Fault::new(slow).on(id));
    };
    let renewals = [("before", rows[0]), ("after", rows[1])].map(|(moment, id)| {
        slow_key(id);
        (format!("{id}:key:renew_lease:{moment}"), 1)
    });
    let stops: BTreeMap<String, usize> = points
        .iter()
        .enumerate()
        .map(
            |(n, point)| match ["dispatcher:", "sweep:"].iter().any(|of| point.starts_with(of)) {
                true => (point.clone(), 3),
                false => (format!("{}:{point}", rows[n % ROWS]), 1),
            },
        )
        .chain(renewals)
        .collect();
    let mut killer = Killer::start(&bed, stops);
    // A worker that dies for one row may die in the midst of another's effect, which is done then: its point comes with the next
    // row that walks round. With a new row, since some effects are once in a row's life, as the keeping of its wallet is.
    for round in 0..ROUNDS {
        let mut walking: Vec<i64> = rows.iter().copied().filter(|id| killer.waits_for(*id)).collect();
        if walking.is_empty() {
            break;
        }
        if round > 0 {
            for id in &mut walking {
                let heir = new_row(&bed, &format!("round-{round}-for-{id}")).await;
                slow_key(heir);
                killer.instead(*id, heir);
                rows.push(heir);
                *id = heir;
            }
            killer.restart().await;
        }
        killer
            .until(join_all(walking.iter().map(|id| walk_round(&bed, *id))))
            .await;
    }
    // Rows that walk are over sooner than the dispatcher has died at each of its points: it parks nothing in its first two seconds.
    killer.until_nothing_is_missed().await;
    println!(
        "{} crash points, {} SIGKILLs, {} rows",
        points.len() + 2,
        killer.kills,
        rows.len()
    );
    assert_eq!(killer.missed(), Vec::<&String>::new(), "nobody died there");
    assert!(
        killer.kills >= points.len() / 2,
        "a death may serve two rows, but only {} died",
        killer.kills
    );

    nothing_is_broken(&bed).await;
    for id in rows {
        let launched = count(&bed, id, |event| matches!(event, Event::Launched { .. }));
        let ended = count(&bed, id, |event| matches!(event, Event::Terminated));
        assert_eq!(
            (launched, ended),
            (2, 1),
            "row {id}: one machine for each walk to live"
        );
    }
}

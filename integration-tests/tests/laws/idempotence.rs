//! A step that has done everything and lost its outcome is taken again, and does nothing twice.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Config, Event};

use crate::witness::{count, nothing_is_broken};
use crate::workers::{Killer, bed, new_row, walk_round};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_step_is_idempotent() {
    let bed = bed(Config::default(), "").await;
    let states: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| state.is_working())
        .collect();
    // One row for each step, which is done whole three times before its outcome is written.
    let mut rows = BTreeMap::new();
    for state in &states {
        rows.insert(new_row(&bed, &format!("{state}-thrice")).await, *state);
    }
    let stops = rows
        .iter()
        .map(|(id, state)| (format!("{id}:{state}:finish_step:before"), 3))
        .collect();
    let mut killer = Killer::start(&bed, stops);
    killer
        .until(join_all(rows.keys().map(|id| walk_round(&bed, *id))))
        .await;
    assert_eq!(killer.missed(), Vec::<&String>::new(), "nobody died there");

    nothing_is_broken(&bed).await;
    for (id, state) in rows {
        // Twice to live, once round by stop, update and start: every effect happened as often as its walk was asked for.
        let happened = [
            count(&bed, id, |event| matches!(event, Event::Launched { .. })),
            count(&bed, id, |event| matches!(event, Event::KeyMade)),
            count(&bed, id, |event| matches!(event, Event::CertificateMade { .. })),
            count(&bed, id, |event| matches!(event, Event::Started { .. })),
            count(&bed, id, |event| matches!(event, Event::WalletSet { .. })),
            count(&bed, id, |event| matches!(event, Event::ReleaseChanged { .. })),
            count(&bed, id, |event| matches!(event, Event::Terminated)),
        ];
        assert_eq!(
            happened,
            [2, 2, 2, 3, 2, 1, 1],
            "row {id}, whose {state} was done three times over"
        );
    }
}

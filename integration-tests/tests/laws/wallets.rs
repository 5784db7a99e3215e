//! One wallet for one gatewayd, for ever: kept before anybody hears of it, and the same on every machine of the row.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use gatewayzen_core::State;
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::Wallet;
use integration_tests::simulated_fleet::{Config, Event, Fault, FaultKind};

use crate::witness::nothing_is_broken;
use crate::workers::{Killer, bed, new_row, walk};

const ROWS: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wallet_for_one_gatewayd() {
    let at = |fault, probability| Fault {
        probability,
        ..Fault::new(fault)
    };
    let faults = vec![
        at(FaultKind::ApiCloses, 0.15),
        at(FaultKind::ApiHtml500, 0.1),
        at(FaultKind::ApiSlow { ms: 300 }, 0.1),
    ];
    let bed = bed(
        Config {
            faults,
            ..Config::default()
        },
        "",
    )
    .await;
    let mut rows = Vec::new();
    for n in 0..ROWS {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    let moments = [
        "keep_wallet:before",
        "keep_wallet:after",
        "POST /v1/config/wallets/cold:before",
        "POST /v1/config/wallets/cold:after",
        "finish_step:before",
        "finish_step:after",
    ];
    let stops: BTreeMap<String, usize> = rows
        .iter()
        .zip(moments.iter().cycle())
        .map(|(id, moment)| (format!("{id}:wallet:{moment}"), 2))
        .collect();
    let mut killer = Killer::start(&bed, stops);
    // Others take the same jobs: two workers must not make two wallets.
    let _others = [bed.start("wallet-worker"), bed.start("wallet-worker")];
    let story = async |id: i64| {
        walk(&bed, id, (State::Instance, State::Live)).await;
        // A restart forgets what was not saved.
        walk(&bed, id, (State::Stop, State::Stopped)).await;
        walk(&bed, id, (State::Start, State::Live)).await;
        // Another machine, the same wallet.
        walk(&bed, id, (State::Terminate, State::Terminated)).await;
        walk(&bed, id, (State::Instance, State::Live)).await;
    };
    killer.until(join_all(rows.iter().map(|id| story(*id)))).await;
    // The others, who do not die, take two of three jobs: so it is chance how often somebody has died by now.
    let once_more = async |id: i64| {
        walk(&bed, id, (State::Stop, State::Stopped)).await;
        walk(&bed, id, (State::Start, State::Live)).await;
    };
    for _ in 0..10 {
        if killer.kills >= ROWS / 2 {
            break;
        }
        killer.until(join_all(rows.iter().map(|id| once_more(*id)))).await;
    }
    println!("{} SIGKILLs", killer.kills);
    assert!(killer.kills >= ROWS / 2, "only {} SIGKILLs", killer.kills);
    nothing_is_broken(&bed).await;

    // What is kept opens to the address that the servers heard: the money can be moved.
    let keys = KeyRing::parse(&bed.sealing_keys()).unwrap();
    let kept: Vec<(i64, String, i32, Vec<u8>)> = sqlx::query_as(
        "SELECT w.gatewayd_id, w.address, s.version, s.sealed FROM wallets w JOIN wallet_seeds s USING (gatewayd_id)",
    )
    .fetch_all(&bed.database.admin)
    .await
    .unwrap();
    assert_eq!(kept.len(), ROWS, "one seed for one wallet for one row");
    for (id, address, version, sealed) in &kept {
        let row = format!("{id}/{version}");
        let seed = keys.open(Place::wallet_seed(&row), sealed).unwrap();
        let wallet = Wallet::from_seed(seed.expose_str().unwrap()).unwrap();
        assert_eq!(wallet.address(), address, "row {id}");
    }
    let heard: BTreeSet<String> = bed
        .fleet
        .ledger()
        .entries()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::WalletSet { address } => Some(address),
            _ => None,
        })
        .collect();
    assert_eq!(heard.len(), ROWS, "no two servers have one wallet");
}

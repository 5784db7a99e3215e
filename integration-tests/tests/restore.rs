//! The runbook "Back up and restore" of docs/recovery.md, step by step: a backup goes into an empty cluster, though the fleet has
//! gone on since it was made, and Redis is lost as well.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeSet;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Database, Options, PostgresServer, eventually};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind};

/// In the words of the runbook.
const PAST_THE_LOST_IDS: &str =
    "SELECT setval(seq, nextval(seq) + 1000000) FROM pg_get_serial_sequence('gatewayds', 'id') AS seq";
/// Sweeps look twice within a moment.
const SETTINGS: &str = "sweep.grace = \"1s\"\nsweep.most_share = 1.0\nec2.consistency_window = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_into_an_empty_cluster_and_the_fleet_goes_on() {
    let (mut lost, mut empty) = (PostgresServer::new().await, PostgresServer::new().await);
    lost.start().await;
    let mut bed = Bed::new(Options {
        settings: SETTINGS.into(),
        postgres_url: Some(lost.url()),
        ..Options::default()
    })
    .await;
    let services = bed.start_all();
    let acme = bed.launch("acme").await;
    let live = bed.reached(acme, State::Live).await;
    // One is caught in the middle: its machine is launched, and EC2's answer does not come.
    let no_answer = FaultKind::Ec2LosesReply {
        action: Some("RunInstances".into()),
    };
    let half = bed
        .launch_after("half", |id| bed.fleet.fault(Fault::new(no_answer).on(id)))
        .await;
    let launched = |id: i64| launches(&bed, id);
    eventually("the machine of half", async || {
        (launched(half).len() == 1).then_some(())
    })
    .await;
    let backup = bed.folder().join("gatewayzen.dump");
    bed.database.dump(&backup).await;

    // The fleet goes on after the backup; then Postgres and Redis are lost.
    let late = bed.launch("late").await;
    let forgotten = bed.reached(late, State::Live).await;
    bed.write_state(acme, State::Stop).await.unwrap();
    bed.reached(acme, State::Stopped).await;
    drop(services);
    lost.stop_at_once().await;
    bed.burn_redis().await;
    bed.fleet.clear_faults();

    // The backup goes into an empty cluster. The fleet is halted before a service looks at it.
    empty.start().await;
    let restored = Database::restored(&backup, &empty.url()).await;
    // Its cluster is gone: nothing is left to drop.
    std::mem::forget(bed.restore(restored));
    let migrated = bed.gatewayzen_as("postgres", &["migrate"]).await.unwrap();
    assert!(migrated.contains("the schema is up to date"), "{migrated}");
    let moved = sqlx::query(PAST_THE_LOST_IDS).execute(&bed.database.admin).await;
    moved.expect("the sequence of ids is moved");
    bed.gatewayzen(&["halt", "--why", "restored from last night's backup"])
        .await
        .unwrap();
    let _services = bed.start_all();

    // Who has moved since? A machine that this database has never heard of, and its wallet, of which a copy is left.
    let unknown = forgotten.instance_id.unwrap();
    let told = bed.gatewayzen(&["sweep"]).await.unwrap();
    for part in [&unknown, "UNKNOWN", "late", "the fleet is halted"] {
        assert!(told.contains(part), "{part:?} is not in: {told}");
    }
    let address = forgotten.ripple_address.unwrap();
    let copy = bed.wallet_copies().join(format!("wallet-{address}.backup"));
    let seed = bed.folder().join("seed");
    bed.gatewayzen(&[
        "secrets",
        "reveal",
        "late",
        "wallet",
        "--backup",
        copy.to_str().unwrap(),
        "--offline",
        "--reason",
        "built after the backup",
        "--to",
        seed.to_str().unwrap(),
    ])
    .await
    .unwrap();
    let seed = std::fs::read_to_string(seed).unwrap();
    let wallet = gatewayzen_core::wallet::Wallet::from_seed(seed.trim()).unwrap();
    assert_eq!(wallet.address(), address);
    assert_eq!(bed.row(half).await.state, State::Instance, "halted");

    // An application that does not wait ends a new row: the machine of the lost one is not its own.
    let hasty = bed.launch("hasty").await;
    bed.write_state(hasty, State::Terminate).await.unwrap();
    bed.reached(hasty, State::Terminated).await;
    assert_eq!(ended(&bed), BTreeSet::new());

    // It is declared, and goes on: the launch in the middle has one machine, as if nothing had been.
    bed.gatewayzen(&["restored", "--why", "the disk broke"])
        .await
        .unwrap();
    bed.gatewayzen(&["resume", "--fleet", "--why", "restored"])
        .await
        .unwrap();
    bed.reached(half, State::Live).await;
    assert_eq!(launches(&bed, half).len(), 1);
    // The host of acme has heard later leases than the backup knows. Its truth is `stopped`: it is brought there again.
    assert_eq!(bed.row(acme).await.state, State::Live, "as it was at the backup");
    bed.write_state(acme, State::Stop).await.unwrap();
    bed.reached(acme, State::Stopped).await;
    bed.write_state(acme, State::Start).await.unwrap();
    let again = bed.reached(acme, State::Live).await;
    assert_eq!(
        (&again.instance_id, &again.ripple_address),
        (&live.instance_id, &live.ripple_address)
    );
    let opens = bed.gatewayzen(&["secrets", "status"]).await;
    opens.expect("every secret opens");

    // A new row gets an id that no lost row had, and a machine of its own.
    let next = bed.launch("next").await;
    assert!(next > late + 1_000, "{next}");
    let new = bed.reached(next, State::Live).await;
    assert_ne!(new.instance_id.as_deref(), Some(unknown.as_str()));
    assert_ne!(new.ripple_address.as_deref(), Some(address.as_str()));

    // The machine that nobody claims is ended, and no other.
    eventually("the sweeps to end it", async || {
        bed.gatewayzen(&["sweep", "--act"]).await.ok();
        (!ended(&bed).is_empty()).then_some(())
    })
    .await;
    assert_eq!(ended(&bed), BTreeSet::from([unknown]));
}

/// The machines that were launched for a row.
fn launches(bed: &Bed, id: i64) -> BTreeSet<String> {
    machines(bed, |gatewayd, event| {
        gatewayd == id.to_string() && matches!(event, Event::Launched { .. })
    })
}

/// The machines whose end somebody has asked EC2 for.
fn ended(bed: &Bed) -> BTreeSet<String> {
    machines(bed, |_, event| *event == Event::TerminateAsked)
}

fn machines(bed: &Bed, are: impl Fn(&str, &Event) -> bool) -> BTreeSet<String> {
    let entries = bed.fleet.ledger().entries().into_iter();
    entries
        .filter(|entry| are(&entry.gatewayd, &entry.event))
        .map(|entry| entry.instance)
        .collect()
}

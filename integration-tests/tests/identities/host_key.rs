//! The host key of the launch, which EC2 has seen, gives way to one that was made on the host.

use gatewayzen_core::{Gatewayd, State};
use integration_tests::harness::{Bed, Options, new_row};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind, HostView};

use crate::mortal::{Mortal, around};

fn host(bed: &Bed, row: &Gatewayd) -> HostView {
    let hosts = bed.fleet.hosts();
    let own = hosts
        .into_iter()
        .find(|host| Some(&host.instance) == row.instance_id.as_ref());
    own.expect("the row's machine")
}

/// What the database keeps of the host keys of a row's machine: pending, sealed user data, whether it was replaced.
async fn kept(bed: &Bed, id: i64) -> (Option<String>, Option<Vec<u8>>, bool) {
    sqlx::query_as(
        "SELECT pending_host_key, sealed_user_data, host_key_replaced_at IS NOT NULL AND launch_key_erased_at IS NOT NULL
         FROM launch_attempts WHERE gatewayd_id = $1 AND ended_at IS NULL",
    )
    .bind(id)
    .fetch_one(&bed.database.admin)
    .await
    .unwrap()
}

/// The host has a key of its own, the row knows it, and nothing is left of the launch's.
async fn has_a_key_of_its_own(bed: &Bed, id: i64) {
    let row = bed.row(id).await;
    let host = host(bed, &row);
    assert_eq!(row.host_key_fingerprint.as_ref(), Some(&host.host_key));
    assert!(host.launch_key_erased, "the host still has its user data");
    assert_eq!(kept(bed, id).await, (None, None, true));
    let installed: Vec<String> = bed
        .fleet
        .ledger()
        .entries()
        .into_iter()
        .filter(|entry| entry.instance == host.instance)
        .filter_map(|entry| match entry.event {
            Event::HostKeyInstalled { fingerprint } => Some(fingerprint),
            _ => None,
        })
        .collect();
    assert_eq!(
        installed,
        [host.host_key],
        "one key was made and installed, whoever died"
    );
}

#[tokio::test]
async fn the_host_key_of_the_launch_is_replaced_and_whoever_has_it_is_refused_with_both_fingerprints() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let live = bed.reached(id, State::Live).await;
    has_a_key_of_its_own(&bed, id).await;

    // A machine in the middle that read the user data shows the launch's key, and proves that it has it.
    bed.fleet.fault(Fault::new(FaultKind::LaunchHostKey).on(id));
    bed.write_state(id, State::Stop).await.unwrap();
    let row = bed.parked(id).await;
    let (fault, unblock) = (row.fault.unwrap(), row.unblock.unwrap());
    println!("{fault}\n    {unblock}");
    assert_eq!(fault.matches("SHA256:").count(), 2, "{fault}");
    assert!(
        fault.contains(&format!("but {} is expected", live.host_key_fingerprint.unwrap())),
        "{fault}"
    );
    assert!(
        unblock.contains("gatewayzen identity reset acme --fingerprint SHA256:"),
        "{unblock}"
    );
    assert!(unblock.contains("somebody stands between"), "{unblock}");
    let pids = bed.fleet.hosts()[0].pids.len();
    assert!(pids > 0, "nothing was done on whatever that was");

    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    // Ended by its id: there is nothing left that could be replayed.
    bed.write_state(id, State::Terminate).await.unwrap();
    bed.reached(id, State::Terminated).await;
}

#[tokio::test]
async fn wherever_a_worker_dies_the_host_ends_with_one_key_which_is_known() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 100".into(),
        ..Options::default()
    })
    .await;
    let points = around(
        "key",
        &[
            "make_host_key",
            "keep_pending_host_key",
            "install_host_key",
            "promote_host_key",
            "erase_host_key",
            "forget_launch_key",
            "record_ssh_login",
        ],
    );
    let mut rows = Vec::new();
    for n in 0..points.len() {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    let stops = rows
        .iter()
        .zip(points)
        .map(|(id, point)| format!("{id}:{point}"))
        .collect();
    let _services = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let mut worker = Mortal::start(&bed, stops, Vec::new());
    // One after the other: a death for one row in the midst of another's effect would spare that one its own.
    let walks = async {
        for id in &rows {
            bed.write_state(*id, State::Instance).await.unwrap();
            bed.reached(*id, State::Live).await;
        }
    };
    worker.until(walks).await;
    println!("{} rows, {} deaths", rows.len(), worker.deaths);
    assert_eq!(worker.deaths, rows.len());
    for id in rows {
        has_a_key_of_its_own(&bed, id).await;
    }
}

#[tokio::test]
async fn an_ssh_server_that_goes_on_showing_its_old_key_is_named_and_the_old_key_stays_good() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 1".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("deaf", |id| {
            bed.fleet.fault(Fault::new(FaultKind::LaunchHostKey).on(id))
        })
        .await;
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains("still shows the SSH host key SHA256:"), "{fault}");
    assert!(fault.contains("`install_host_key` gave it SHA256:"), "{fault}");
    assert!(
        kept(&bed, id).await.1.is_some(),
        "nothing is erased before the new key was met"
    );
    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "deaf"]).await.unwrap();
    bed.reached(id, State::Live).await;
    has_a_key_of_its_own(&bed, id).await;
}

//! `stop`: gatewayd is seen to be down, and its host is backed up.

use std::time::Duration;

use gatewayzen_core::{Facts, State};
use integration_tests::simulated_fleet::{Event, FaultKind};

use crate::bench::Bench;
use crate::words::{says, some, transient};

#[tokio::test]
async fn stop_is_seen_to_be_down_and_names_what_is_left() {
    let mut bench = Bench::in_state(State::Stop).await;
    bench.settings.gatewayd.stop_timeout = Duration::from_millis(300);
    bench.fault(FaultKind::StopLeavesProcess);
    let text = transient(bench.step().await);
    says(
        &text,
        &[
            "not down 0.3 s after `stop`",
            "exit status 0",
            "5 processes are left",
            "port 5000 is open",
            &bench.address,
        ],
    );
    for pid in bench.host().pids {
        says(&text, &[&pid.to_string()]);
    }
    bench.fleet.clear_faults();
    says(&bench.step().await.unwrap(), &["5 processes ended"]);
    assert!(bench.host().pids.is_empty());
    assert_eq!(bench.row().await.state, State::Stopped);
}

#[tokio::test]
async fn a_stop_that_works_and_never_exits_is_a_stop() {
    let bench = Bench::in_state(State::Stop).await;
    // The host's `timeout` ends it, as it ends gatewayd's own `stop`, which often never does.
    bench.fault(FaultKind::CommandEndsBadly {
        command: some("stop"),
        status: 124,
    });
    says(&bench.step().await.unwrap(), &["5 processes ended"]);
    assert!(bench.host().pids.is_empty());
    assert_eq!(bench.row().await.state, State::Stopped);
    let ended = bench
        .fleet
        .ledger()
        .count(|entry| matches!(&entry.event, Event::Command { name, exit: 124, .. } if name == "stop"));
    assert_eq!(ended, 1);
}

#[tokio::test]
async fn on_a_full_disk_nothing_runs_and_stop_neither() {
    let bench = Bench::in_state(State::Stop).await;
    bench.fault(FaultKind::DiskFull);
    says(
        &transient(bench.step().await),
        &[
            &format!("`processes` on host {} ended with exit status 1", bench.address),
            "No space left on device",
            "mend the host or the setting gatewayd.commands.processes",
        ],
    );
    assert_eq!(bench.host().pids.len(), 5);
    assert_eq!(bench.row().await.state, State::Stop);
    bench.fleet.clear_faults();
    says(&bench.step().await.unwrap(), &["5 processes ended"]);
}

#[tokio::test]
async fn a_host_is_backed_up_once_gatewayd_is_down_and_only_then_the_row_advances() {
    let mut bench = Bench::in_state(State::Stop).await;
    bench.settings.gatewayd.backup_command = "back-up-the-host".into();
    // It fails: gatewayd is down, and the row stays.
    bench.fault(FaultKind::CommandExits {
        command: some("backup"),
        status: 1,
    });
    says(
        &transient(bench.step().await),
        &[
            &format!("`backup` on host {} ended with exit status 1", bench.address),
            "simulated failure",
            "mend the host or the setting gatewayd.backup_command",
        ],
    );
    assert!(bench.host().pids.is_empty());
    assert_eq!(bench.row().await.state, State::Stop);
    let backups =
        "SELECT coalesce(string_agg(coalesce(place, 'nowhere'), ' ' ORDER BY id), '') FROM host_backups";
    assert_eq!(bench.text(backups).await, "");
    bench.fleet.clear_faults();
    // It says where the backup is, or nothing.
    let ledger = bench.fleet.ledger();
    let commands = ledger
        .entries()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::Command { name, .. } => Some(name),
            _ => None,
        });
    let commands: Vec<String> = commands.collect();
    assert_eq!(
        commands.last().map(String::as_str),
        Some("backup"),
        "{commands:?}"
    );
    says(
        &bench.step().await.unwrap(),
        &["; its host was backed up to sim://backups/i-"],
    );
    assert_eq!(bench.row().await.state, State::Stopped);
    says(&bench.text(backups).await, &["sim://backups/i-"]);
    bench.execute("UPDATE gatewayds SET state = 'start'").await;
    bench.step().await.unwrap();
    let lease = bench.lease(State::Wallet).await;
    bench.advance(&lease, State::Live, Facts::default()).await;
    bench.execute("UPDATE gatewayds SET state = 'stop'").await;
    bench.fault(FaultKind::CommandPrints {
        command: some("backup"),
        text: " \n".into(),
    });
    let done = bench.step().await.unwrap();
    assert!(done.ends_with("; its host was backed up"), "{done}");
    says(&bench.text(backups).await, &["sim://backups/i-", " nowhere"]);
}

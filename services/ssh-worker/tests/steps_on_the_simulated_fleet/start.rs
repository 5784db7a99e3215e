//! `start`: gatewayd is seen to answer with the pinned certificate.

use std::time::Duration;

use gatewayzen_core::State;
use integration_tests::simulated_fleet::{Event, Fault, FaultKind};

use crate::bench::Bench;
use crate::words::{permanent, says, some, transient};

const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
const OTHER: &str = "rrrrrrrrrrrrrrrrrrrrrhoLvTp";

#[tokio::test]
async fn start_is_seen_to_answer_and_a_second_try_finds_it_running() {
    let bench = Bench::in_state(State::Start).await;
    // The effect happens and its answer is lost: the next try must not start another.
    bench.fleet.fault(
        Fault::new(FaultKind::CommandLosesReply {
            command: some("start"),
        })
        .times(1),
    );
    says(
        &transient(bench.step().await),
        &["`start` on host", "ended in mid-command"],
    );
    bench
        .fleet
        .ledger()
        .wait_for(|entry| matches!(entry.event, Event::Listening { .. }))
        .await;
    let pids = bench.host().pids;
    says(
        &bench.step().await.unwrap(),
        &["5 processes run", "pinned certificate"],
    );
    assert_eq!(bench.host().pids, pids);
    assert_eq!(bench.row().await.state, State::Wallet);
}

#[tokio::test]
async fn a_gatewayd_that_never_listens_is_told_and_started_afresh_by_the_next_try() {
    let mut bench = Bench::in_state(State::Start).await;
    bench.settings.gatewayd.start_timeout = Duration::from_millis(300);
    bench.fault(FaultKind::NeverListens);
    says(
        &transient(bench.step().await),
        &[
            "does not answer 0.3 s after `start` (exit status 0)",
            "5 processes run",
            "refused",
            &bench.address,
            "gatewayd.https_port",
        ],
    );
    bench.fleet.clear_faults();
    bench.settings.gatewayd.start_timeout = Duration::from_secs(20);
    bench.step().await.unwrap();
}

#[tokio::test]
async fn one_process_of_five_is_told_and_ended_before_the_next_start() {
    let mut bench = Bench::in_state(State::Start).await;
    bench.settings.gatewayd.start_timeout = Duration::from_millis(300);
    bench.fault(FaultKind::StartLeavesProcesses { processes: 1 });
    says(
        &transient(bench.step().await),
        &[
            "does not answer 0.3 s after `start` (exit status 0)",
            "1 processes run",
            "refused",
        ],
    );
    bench.fleet.clear_faults();
    let left = bench.host().pids;
    assert_eq!(left.len(), 1);
    bench.settings.gatewayd.start_timeout = Duration::from_secs(20);
    says(&bench.step().await.unwrap(), &["5 processes run"]);
    assert!(!bench.host().pids.contains(&left[0]));
}

#[tokio::test]
async fn another_certificate_is_a_fault_with_both_fingerprints() {
    let bench = Bench::in_state(State::Start).await;
    let pinned = bench.row().await.tls_fingerprint.unwrap();
    bench.fault(FaultKind::OtherCertificate);
    let text = permanent(bench.step().await);
    says(
        &text,
        &[
            "is not what was started",
            &format!("the pinned one is {pinned}"),
            "shows the certificate",
            "SSL_KEY_PATH",
        ],
    );
}

#[tokio::test]
async fn a_saved_wallet_that_is_not_ours_is_never_started() {
    let bench = Bench::in_state(State::Start).await;
    let lease = bench.lease(State::Start).await;
    bench
        .admin
        .keep_wallet(&lease, WALLET, "secp256k1", b"sealed")
        .await
        .unwrap();
    let released = gatewayzen_core::repository::Outcome::Release;
    bench
        .repository
        .finish_step(&lease, &released, Duration::from_secs(1))
        .await
        .unwrap();
    bench.fault(FaultKind::WrongSavedWallet {
        address: OTHER.into(),
    });
    says(
        &permanent(bench.step().await),
        &[WALLET, OTHER, "was not started", "config/config.json"],
    );
    assert!(bench.host().pids.is_empty());
    bench.fleet.clear_faults();
    bench.fault(FaultKind::WrongSavedWallet {
        address: WALLET.into(),
    });
    bench.step().await.unwrap();
}

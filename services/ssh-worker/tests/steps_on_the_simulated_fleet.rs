//! Whole steps, on a real Postgres and a simulated host: as they should go, and with everything that can go wrong.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod bench;

use std::time::Duration;

use bench::{API_KEYS, Bench};
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::{Facts, Next, State, StepError};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind};

const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
const OTHER: &str = "rrrrrrrrrrrrrrrrrrrrrhoLvTp";

/// What a failed step tells an operator, if it is of this kind.
#[track_caller]
fn transient(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Transient(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not transient: {other:?}"),
    }
}

#[track_caller]
fn permanent(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not permanent: {other:?}"),
    }
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

fn some(command: &str) -> Option<String> {
    Some(command.to_owned())
}

#[tokio::test]
async fn a_booting_host_is_waited_for_and_gives_its_key_certificate_and_release() {
    let bench = Bench::with(|times| times.ssh_ms = 1500).await;
    bench.step().await.unwrap();
    let (row, host) = (bench.row().await, bench.host());
    assert_eq!(row.state, State::Start);
    assert_eq!(row.tls_fingerprint, host.certificate);
    assert_eq!(row.release_in_place.as_deref(), Some("3.33.0"));
    assert_eq!(row.commit_in_place.unwrap().len(), 40);
    let sealed = bench.admin.api_key(bench.id).await.unwrap().unwrap();
    let place = bench.id.to_string();
    let key = KeyRing::parse(API_KEYS)
        .unwrap()
        .open(Place::api_key(&place), &sealed)
        .unwrap();
    assert_eq!(Some(key.expose_str().unwrap().to_owned()), host.api_key);
}

#[tokio::test]
async fn a_host_that_is_not_up_yet_costs_no_attempt_and_one_that_never_comes_is_named() {
    let mut bench = Bench::with(|times| times.ssh_ms = 600_000).await;
    let Next::WaitUntil { waiting_for, after } = bench.once(1).await.unwrap() else {
        panic!("not waiting")
    };
    says(&waiting_for, &["its SSH server at ", &bench.address, "refused"]);
    assert!(after <= Duration::from_secs(1));
    bench.settings.ssh.boot_grace = Duration::ZERO;
    says(
        &transient(bench.step().await),
        &[
            "no SSH session with host",
            &bench.address,
            "port 2222",
            "refused",
            "security group",
        ],
    );
}

#[tokio::test]
async fn the_key_step_survives_a_lost_reply_and_keeps_key_and_certificate() {
    let bench = Bench::new().await;
    for command in ["get_key", "tls", "release"] {
        bench.fleet.fault(
            Fault::new(FaultKind::CommandLosesReply {
                command: some(command),
            })
            .times(1),
        );
        says(
            &transient(bench.step().await),
            &[
                &format!("`{command}` on host {}", bench.address),
                "ended in mid-command",
            ],
        );
    }
    let before = bench.host();
    bench.step().await.unwrap();
    let (row, host) = (bench.row().await, bench.host());
    assert_eq!(
        (&before.api_key, &before.certificate),
        (&host.api_key, &host.certificate)
    );
    assert_eq!(row.tls_fingerprint, host.certificate);
}

#[tokio::test]
async fn a_host_without_a_key_shows_what_it_said_and_never_a_key() {
    let bench = Bench::new().await;
    bench.fault(FaultKind::NoKey);
    says(
        &transient(bench.step().await),
        &[
            "`get_key` on host",
            "printed no API key",
            "exit status 0",
            "deprecated",
        ],
    );
}

#[tokio::test]
async fn a_wrong_host_key_and_a_wrong_fleet_key_are_faults_with_fingerprints() {
    let bench = Bench::new().await;
    let text = permanent(bench.step_with(7).await);
    says(
        &text,
        &[
            "refused the login of user \"ubuntu\"",
            "SHA256:",
            &bench.address,
            "ssh.key_file",
        ],
    );
    bench.fault(FaultKind::WrongHostKey);
    let text = permanent(bench.step().await);
    assert_eq!(text.matches("SHA256:").count(), 2, "{text}");
    says(&text, &["is not the one that was launched", &bench.address]);
}

#[tokio::test]
async fn a_row_that_lacks_what_a_step_needs_says_which_step_makes_it() {
    let mut bench = Bench::new().await;
    bench.settings.hosts.connect_via = gatewayzen_bootstrap::settings::ConnectVia::Public;
    says(
        &permanent(bench.step().await),
        &["no public address", "initializeEc2Instance", "hosts.connect_via"],
    );
    bench.settings.hosts.connect_via = gatewayzen_bootstrap::settings::ConnectVia::Private;
    bench
        .execute("UPDATE launch_attempts SET ended_at = now(), ended_why = 'test'")
        .await;
    says(
        &permanent(bench.step().await),
        &["SSH host key", "initializeEc2Instance"],
    );
}

#[tokio::test]
async fn a_command_that_hangs_floods_or_fails_is_told_with_its_figures() {
    let mut bench = Bench::new().await;
    bench.settings.gatewayd.command_timeout = Duration::from_secs(1);
    bench.settings.gatewayd.lock_timeout = Duration::ZERO;
    let fails = async |bench: &Bench, kind: FaultKind, parts: &[&str]| {
        bench.fleet.clear_faults();
        bench.fault(kind);
        says(&transient(bench.step().await), parts);
    };
    let status = |status| FaultKind::CommandExits {
        command: some("tls"),
        status,
    };
    fails(
        &bench,
        status(2),
        &[
            "`tls` on host",
            "exit status 2",
            "simulated failure",
            "gatewayd.commands.tls",
        ],
    )
    .await;
    fails(
        &bench,
        status(124),
        &["`tls` on host", "did not end within its 1 s"],
    )
    .await;
    fails(&bench, status(137), &["`tls` on host", "was killed"]).await;
    let hangs = FaultKind::CommandHangs {
        command: some("release"),
    };
    fails(&bench, hangs, &["`release` on host", "no answer within 8s"]).await;
    bench.settings.ssh.output_limit = 8192;
    let floods = FaultKind::CommandFloods {
        command: some("release"),
    };
    fails(
        &bench,
        floods,
        &["`release` on host", "flooded standard output with more than"],
    )
    .await;

    bench.fleet.clear_faults();
    bench.fault(status(75));
    let Next::WaitUntil { waiting_for, .. } = bench.once(1).await.unwrap() else {
        panic!("not waiting")
    };
    says(
        &waiting_for,
        &["another command of GatewayZen on host", ".gatewayzen/lock"],
    );
}

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
    // How `stop` itself ends does not matter: often it never does.
    says(&bench.step().await.unwrap(), &["5 processes ended"]);
    assert!(bench.host().pids.is_empty());
    assert_eq!(bench.row().await.state, State::Stopped);
}

#[tokio::test]
async fn a_host_is_backed_up_once_gatewayd_is_down_and_only_then_the_row_advances() {
    let mut bench = Bench::in_state(State::Stop).await;
    bench.settings.gatewayd.backup_command = "back-up-the-host".into();
    // It fails: gatewayd is down, and the row stays.
    bench.fault(FaultKind::DiskFull);
    says(
        &transient(bench.step().await),
        &[
            &format!("`backup` on host {} ended with exit status 1", bench.address),
            "No space left on device",
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

#[tokio::test]
async fn an_update_is_verified_and_leaves_nothing_running() {
    let bench = Bench::in_state(State::Update).await;
    says(&permanent(bench.step().await), &["column release is empty"]);
    bench.execute("UPDATE gatewayds SET release = 'v3.34.2'").await;
    bench.fault(FaultKind::KeepsOldRelease);
    let text = transient(bench.step().await);
    says(
        &text,
        &[
            "v3.34.2 was asked for",
            "version 3.33.0 is in place",
            &bench.address,
        ],
    );
    assert_eq!(bench.row().await.release_in_place.as_deref(), Some("3.33.0"));
    bench.fleet.clear_faults();
    says(
        &bench.step().await.unwrap(),
        &["v3.34.2 in place", "nothing runs"],
    );
    let row = bench.row().await;
    assert_eq!(
        (row.state, row.release_in_place.as_deref()),
        (State::Stopped, Some("3.34.2"))
    );
    assert!(bench.host().pids.is_empty() && bench.host().release == "v3.34.2");
}

#[tokio::test]
async fn an_update_survives_a_lost_reply_of_each_of_its_commands() {
    let bench = Bench::in_state(State::Update).await;
    bench.execute("UPDATE gatewayds SET release = 'v3.34.2'").await;
    for command in [
        "stop",
        "processes",
        "fetch",
        "checkout",
        "install",
        "migrate",
        "release",
    ] {
        bench.fleet.fault(
            Fault::new(FaultKind::CommandLosesReply {
                command: some(command),
            })
            .times(1),
        );
        says(
            &transient(bench.step().await),
            &[&format!("`{command}` on host"), "ended in mid-command"],
        );
    }
    bench.step().await.unwrap();
    assert_eq!(bench.row().await.state, State::Stopped);
}

#[tokio::test]
async fn an_unknown_tag_is_a_fault_that_names_it() {
    let bench = Bench::in_state(State::Update).await;
    bench.execute("UPDATE gatewayds SET release = 'v9.9.9'").await;
    says(
        &permanent(bench.step().await),
        &["no tag v9.9.9", &bench.address, "column release"],
    );
    assert_eq!(bench.host().release, "v3.33.0");
}

#[tokio::test]
async fn the_key_is_in_no_text_that_a_step_leaves_behind() {
    let bench = Bench::new().await;
    let mut texts = Vec::new();
    // Once with the key read and the step failed after it, once to the end.
    bench.fleet.fault(
        Fault::new(FaultKind::CommandExits {
            command: some("tls"),
            status: 1,
        })
        .times(1),
    );
    texts.push(transient(bench.step().await));
    texts.push(bench.step().await.unwrap());
    texts.push(format!(
        "{:?} {:?}",
        bench.row().await,
        bench.repository.history(bench.id).await.unwrap()
    ));
    let key = bench.host().api_key.unwrap();
    assert!(texts.iter().all(|text| !text.contains(&key)));
    let sealed = bench.admin.api_key(bench.id).await.unwrap().unwrap();
    assert!(!sealed.windows(key.len()).any(|part| part == key.as_bytes()));
}

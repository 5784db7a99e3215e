//! Hosts and gatewayds that misbehave: each ends in a fault or an error that says what happened, with the row's own
//! figures, and `gatewayzen why` tells it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::{Gatewayd, State};
use integration_tests::harness::{Bed, Options};
use integration_tests::simulated_fleet::{Config, Fault, FaultKind};

fn kind(fault: FaultKind) -> impl FnOnce(&Bed, i64) {
    move |bed, id| bed.fleet.fault(Fault::new(fault).on(id))
}

/// Starts a row with one fault of its own.
async fn with_fault(bed: &Bed, name: &str, fault: FaultKind) -> i64 {
    bed.launch_after(name, |id| kind(fault)(bed, id)).await
}

/// Waits for the fault of a row in a state, and sees that both the row and `why` say each of these.
async fn told(bed: &Bed, id: i64, state: State, says: &[&str]) -> Gatewayd {
    let row = bed.parked(id).await;
    assert_eq!(row.state, state, "{row:?}");
    let fault = row.fault.clone().unwrap();
    let why = bed.why(&row.name).await;
    for word in says {
        assert!(fault.contains(word), "`{word}` is not in the fault: {fault}");
        // `why` wraps its lines.
        let flat = why.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(word), "`{word}` is not in the answer: {why}");
    }
    let unblock = row.unblock.clone().unwrap_or_default();
    assert!(
        !unblock.contains("by itself"),
        "a parked row goes nowhere by itself: {unblock}"
    );
    assert!(!unblock.is_empty(), "nothing says what unblocks it: {fault}");
    let json = bed.why_json(&row.name).await;
    assert_eq!(json["fault"], serde_json::json!(fault), "{json}");
    println!("{}: {fault}\n    {unblock}", row.name);
    row
}

#[tokio::test]
async fn ssh_that_cannot_be_trusted_or_used_is_a_fault_that_says_so() {
    let bed = Bed::new(Options {
        settings: "ssh.boot_grace = \"1s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let host_key = with_fault(&bed, "wrong-host-key", FaultKind::WrongHostKey).await;
    let user_key = with_fault(&bed, "wrong-user-key", FaultKind::RefusesUserKey).await;
    let silent = with_fault(&bed, "never-answers", FaultKind::HostNeverAnswers).await;
    let reset = with_fault(&bed, "resets", FaultKind::ConnectionReset).await;

    let row = told(&bed, host_key, State::Key, &["host key", "SHA256:"]).await;
    let fault = row.fault.unwrap();
    assert_eq!(fault.matches("SHA256:").count(), 2, "both fingerprints: {fault}");
    assert!(fault.contains(&row.host_key_fingerprint.unwrap()), "{fault}");
    let row = told(&bed, user_key, State::Key, &["ubuntu", "SHA256:"]).await;
    assert!(row.fault.unwrap().contains(&row.private_address.unwrap()));
    told(&bed, silent, State::Key, &["3 of 3 attempts", "2222"]).await;
    told(&bed, reset, State::Key, &["3 of 3 attempts", "2222"]).await;
    // Two causes in one state are two answers.
    assert_ne!(bed.row(silent).await.fault, bed.row(reset).await.fault);
}

#[tokio::test]
async fn commands_that_hang_flood_or_say_nothing_are_faults_that_say_so() {
    let bed = Bed::new(Options {
        settings: "gatewayd.command_timeout = \"1s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let command = Some("get_key".to_owned());
    let hangs = with_fault(
        &bed,
        "hangs",
        FaultKind::CommandHangs {
            command: command.clone(),
        },
    )
    .await;
    let floods = with_fault(
        &bed,
        "floods",
        FaultKind::CommandFloods {
            command: command.clone(),
        },
    )
    .await;
    let silent = with_fault(&bed, "no-key", FaultKind::NoKey).await;
    told(&bed, hangs, State::Key, &["get_key", "3 of 3 attempts"]).await;
    told(&bed, silent, State::Key, &["get_key", "no API key"]).await;
    told(
        &bed,
        floods,
        State::Key,
        &["get_key", "flooded", "3 of 3 attempts"],
    )
    .await;
}

#[tokio::test]
async fn a_lost_reply_is_only_a_delay() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("lost", |id| {
            for command in ["get_key", "tls", "start"] {
                let fault = FaultKind::CommandLosesReply {
                    command: Some(command.into()),
                };
                bed.fleet.fault(Fault::new(fault).on(id).times(1));
            }
        })
        .await;
    bed.reached(id, State::Live).await;
}

#[tokio::test]
async fn gatewayds_that_lie_are_found_out() {
    let bed = Bed::new(Options {
        settings: "gatewayd.start_timeout = \"1s\"\ngatewayd.stop_timeout = \"1s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let start = with_fault(&bed, "never-listens", FaultKind::NeverListens).await;
    let stop = with_fault(&bed, "never-stops", FaultKind::StopLeavesProcess).await;
    let update = with_fault(&bed, "old-release", FaultKind::KeepsOldRelease).await;
    let unknown = bed.launch("unknown-release").await;
    told(&bed, start, State::Start, &["5000", "3 of 3 attempts"]).await;
    bed.reached(stop, State::Live).await;
    bed.write_state(stop, State::Stop).await.unwrap();
    let row = told(&bed, stop, State::Stop, &["3 of 3 attempts"]).await;
    let pid = bed
        .fleet
        .hosts()
        .iter()
        .find(|h| h.gatewayd == stop.to_string())
        .unwrap()
        .pids[0];
    assert!(
        row.fault.unwrap().contains(&pid.to_string()),
        "names the process that is left"
    );
    for (id, release) in [(update, "v3.34.2"), (unknown, "v9.9.9")] {
        bed.reached(id, State::Live).await;
        sqlx::query("UPDATE gatewayds SET state = 'update', release = $2 WHERE id = $1")
            .bind(id)
            .bind(release)
            .execute(&bed.database.app)
            .await
            .unwrap();
    }
    told(&bed, update, State::Update, &["3.34.2", "3.33.0"]).await;
    told(&bed, unknown, State::Update, &["v9.9.9"]).await;
    // An update without a release to go to.
    let none = bed.launch("no-release").await;
    bed.reached(none, State::Live).await;
    bed.write_state(none, State::Update).await.unwrap();
    told(&bed, none, State::Update, &["release"]).await;
}

#[tokio::test]
async fn https_that_cannot_be_trusted_or_read_is_a_fault_that_says_so() {
    let other = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
    let bed = Bed::new(Options {
        fleet: Config {
            second_wallet_closes: true,
            ..Config::default()
        },
        ..Options::default()
    })
    .await;
    let _others = ["dispatcher", "instance-worker", "ssh-worker"].map(|name| bed.start(name));
    let mut rows = Vec::new();
    for (name, fault) in [
        ("api-401", FaultKind::Api401),
        ("api-500", FaultKind::ApiHtml500),
        ("api-html", FaultKind::ApiHtml200),
        ("api-closes", FaultKind::ApiCloses),
        (
            "other-wallet",
            FaultKind::OtherWallet {
                address: other.into(),
            },
        ),
    ] {
        let id = bed.launch(name).await;
        // `start` sees gatewayd answer; it goes wrong after that.
        bed.reached(id, State::Wallet).await;
        bed.fleet.fault(Fault::new(fault).on(id));
        rows.push(id);
    }
    let _wallet_worker = bed.start("wallet-worker");
    let [unauthorized, error, html, closes, wallet] = rows[..] else {
        unreachable!()
    };
    told(&bed, unauthorized, State::Wallet, &["401"]).await;
    told(&bed, error, State::Wallet, &["500", "3 of 3 attempts"]).await;
    told(&bed, html, State::Wallet, &["text/html", "3 of 3 attempts"]).await;
    told(&bed, closes, State::Wallet, &["closed", "3 of 3 attempts"]).await;
    let row = told(&bed, wallet, State::Wallet, &[other]).await;
    let ours = row.ripple_address.unwrap();
    assert!(row.fault.unwrap().contains(&ours), "names both wallets");
    let set = bed.fleet.ledger().count(|e| {
        e.gatewayd == wallet.to_string()
            && matches!(
                e.event,
                integration_tests::simulated_fleet::Event::WalletSet { .. }
            )
    });
    assert_eq!(set, 0, "another wallet is never overwritten");
}

#[tokio::test]
async fn another_certificate_is_a_fault_that_names_both() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = with_fault(&bed, "impostor", FaultKind::OtherCertificate).await;
    let row = bed.parked(id).await;
    let fault = row.fault.clone().unwrap();
    assert!(
        fault.contains(&row.tls_fingerprint.unwrap()),
        "the pinned one: {fault}"
    );
    let long_hex = fault
        .split(|c: char| !c.is_ascii_hexdigit())
        .filter(|word| word.len() == 64)
        .count();
    assert_eq!(long_hex, 2, "both fingerprints: {fault}");
    let why = bed.why("impostor").await;
    let flat = why.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&fault), "{why}");
}

#[tokio::test]
async fn a_saved_wallet_that_is_another_stops_the_start() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch("changed").await;
    bed.reached(id, State::Live).await;
    bed.write_state(id, State::Stop).await.unwrap();
    bed.reached(id, State::Stopped).await;
    let other = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
    bed.fleet.fault(
        Fault::new(FaultKind::WrongSavedWallet {
            address: other.into(),
        })
        .on(id),
    );
    bed.write_state(id, State::Start).await.unwrap();
    let ours = bed.row(id).await.ripple_address.unwrap();
    told(&bed, id, State::Start, &[other, &ours]).await;
}

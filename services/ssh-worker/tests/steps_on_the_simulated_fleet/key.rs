//! `key`: a new host is met, and gives its API key, certificate and release.

use std::time::Duration;

use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::{Next, State};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::bench::{API_KEYS, Bench};
use crate::words::{says, some, transient};

#[tokio::test]
async fn a_booting_host_is_waited_for_and_gives_its_key_certificate_and_release() {
    let bench = Bench::with(|times| times.ssh_ms = 1500).await;
    bench.step().await.unwrap();
    let (row, host) = (bench.row().await, bench.host());
    assert_eq!(row.state, State::Start);
    assert_eq!(row.tls_fingerprint, host.certificate);
    assert_eq!(row.release_in_place.as_deref(), Some("3.33.0"));
    assert_eq!(row.commit_in_place.unwrap().len(), 40);
    assert_eq!(Some(kept_key(&bench).await), host.api_key);
}

/// The API key that the database keeps for the row.
async fn kept_key(bench: &Bench) -> String {
    let sealed = bench.admin.api_key(bench.id).await.unwrap().unwrap();
    let place = bench.id.to_string();
    let key = KeyRing::parse(API_KEYS)
        .unwrap()
        .open(Place::api_key(&place), &sealed)
        .unwrap();
    key.expose_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_counts_however_the_command_that_printed_it_ends() {
    // gatewayd 3.34.2 without its Postgres prints the right key and fails afterwards, in both ways.
    for status in [8, 1] {
        let bench = Bench::new().await;
        bench.fault(FaultKind::CommandEndsBadly {
            command: some("get_key"),
            status,
        });
        bench.step().await.unwrap();
        assert_eq!(bench.row().await.state, State::Start);
        assert_eq!(Some(kept_key(&bench).await), bench.host().api_key);
        let ended = bench.fleet.faults_happened();
        assert_eq!(ended.get("command_ends_badly"), Some(&1), "{ended:?}");
    }
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

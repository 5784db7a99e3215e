//! Each way in which a host, one of its commands or its gatewayd is not well.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{Api, Ran, befallen, command, command_line, fleet, fleet_key, host, login, seen, soon};
use super::hosts::COLD;
use crate::simulated_fleet::{Entry, Event, Fault, FaultKind, SimulatedFleet};

/// A fleet with one host, and the fault that befalls it once it is up.
async fn fleet_with(fault: FaultKind) -> (SimulatedFleet, Ipv4Addr) {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    fleet.fault(Fault::new(fault).on("7"));
    (fleet, address)
}

#[tokio::test]
async fn a_host_may_never_answer() {
    let (_fleet, address) = fleet_with(FaultKind::HostNeverAnswers).await;
    let silent = tokio::time::timeout(Duration::from_millis(500), login(address, fleet_key())).await;
    assert!(silent.is_err(), "it accepts and says nothing");
}

#[tokio::test]
async fn a_host_may_reset_the_connection() {
    let (_fleet, address) = fleet_with(FaultKind::ConnectionReset).await;
    let error = soon(login(address, fleet_key()))
        .await
        .err()
        .expect("the connection is reset");
    let russh::Error::IO(error) = error else {
        panic!("{error}")
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_host_may_have_another_key() {
    let (_fleet, address) = fleet_with(FaultKind::WrongHostKey).await;
    let error = soon(login(address, fleet_key()))
        .await
        .err()
        .expect("the key is not the pinned one");
    assert!(matches!(error, russh::Error::UnknownKey), "{error}");
}

#[tokio::test]
async fn a_host_may_refuse_our_key() {
    let (_fleet, address) = fleet_with(FaultKind::RefusesUserKey).await;
    let error = soon(login(address, fleet_key()))
        .await
        .err()
        .expect("the login is refused");
    assert!(matches!(error, russh::Error::NotAuthenticated), "{error}");
}

/// Starts a command that hangs, and waits until it does.
async fn hang(fleet: &SimulatedFleet, address: Ipv4Addr) -> JoinHandle<Ran> {
    fleet.fault(
        Fault::new(FaultKind::CommandHangs {
            command: Some("release".to_owned()),
        })
        .times(1),
    );
    let hanging = tokio::spawn(command_line(address, "GATEWAYZEN_COMMAND=release true"));
    befallen(fleet).await;
    hanging
}

#[tokio::test]
async fn a_command_may_hang_until_the_client_leaves() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let mut hanging = hang(&fleet, address).await;
    let ended = tokio::time::timeout(Duration::from_millis(300), &mut hanging).await;
    assert!(ended.is_err(), "it hangs");
    hanging.abort();
    assert_eq!(
        command(address, "release").await.exit,
        Some(0),
        "the lock is free once the client has left"
    );
}

#[tokio::test]
async fn a_busy_host_says_so() {
    let fleet = fleet(|config| config.times.lock_wait_ms = 50).await;
    let address = host(&fleet, "7").await;
    let hanging = hang(&fleet, address).await;
    assert_eq!(command(address, "release").await.exit, Some(75));
    hanging.abort();
}

#[tokio::test]
async fn a_command_may_flood() {
    let (_fleet, address) = fleet_with(FaultKind::CommandFloods {
        command: Some("get_key".to_owned()),
    })
    .await;
    let ran = tokio::time::timeout(
        Duration::from_secs(120),
        command_line(address, "GATEWAYZEN_COMMAND=get_key true"),
    );
    let ran = ran.await.expect("200 MB take two minutes already");
    assert!(ran.bytes >= 200_000_000, "{} bytes", ran.bytes);
    assert_eq!(ran.exit, Some(0));
}

#[tokio::test]
async fn a_command_may_fail_or_lose_its_reply() {
    let (fleet, address) = fleet_with(FaultKind::CommandExits {
        command: Some("fetch".to_owned()),
        status: 124,
    })
    .await;
    assert_eq!(command(address, "fetch").await.exit, Some(124));
    fleet.fault(
        Fault::new(FaultKind::CommandLosesReply {
            command: Some("get_key".to_owned()),
        })
        .times(1),
    );
    let lost = command(address, "get_key").await;
    assert_eq!((lost.stdout.as_str(), lost.exit), ("", None));
    let kept = fleet.hosts()[0]
        .api_key
        .clone()
        .expect("the key was made all the same");
    assert!(command(address, "get_key").await.stdout.contains(&kept));
    assert_eq!(fleet.ledger().count(|entry| entry.event == Event::KeyMade), 1);
}

#[tokio::test]
async fn a_command_may_do_all_that_it_should_and_end_badly() {
    let (fleet, address) = fleet_with(FaultKind::CommandEndsBadly {
        command: None,
        status: 8,
    })
    .await;
    let ran = command(address, "get_key").await;
    let key = fleet.hosts()[0].api_key.clone().expect("it took effect");
    assert_eq!((ran.exit, ran.stdout.contains(&key)), (Some(8), true));
    let unknown = "GATEWAYZEN_COMMAND=checkout GATEWAYZEN_RELEASE='v9.9.9' true";
    assert_eq!(
        command_line(address, unknown).await.exit,
        Some(1),
        "what fails by itself ends as it does"
    );
}

#[tokio::test]
async fn a_start_may_leave_one_process_of_five() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    fleet.fault(Fault::new(FaultKind::StartLeavesProcesses { processes: 1 }).times(1));
    assert_eq!(command(address, "start").await.exit, Some(0));
    assert_eq!(command(address, "processes").await.stdout.lines().count(), 1);
    let second = command(address, "start").await;
    assert!(second.stderr.contains("already running"), "{second:?}");
    command(address, "stop").await;
    assert_eq!(command(address, "processes").await.stdout, "");
    // Three times as long as a gatewayd takes to listen: there is nothing else to wait for where nothing comes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let listening = |entry: &Entry| matches!(entry.event, Event::Listening { .. });
    assert_eq!(fleet.ledger().count(listening), 0);
    command(address, "start").await;
    assert_eq!(command(address, "processes").await.stdout.lines().count(), 5);
    seen(&fleet, listening).await;
}

#[tokio::test]
async fn a_key_may_be_missing_from_the_output() {
    let (_fleet, address) = fleet_with(FaultKind::NoKey).await;
    let ran = command(address, "get_key").await;
    assert_eq!((ran.exit, ran.stdout.contains("info: ")), (Some(0), false));
}

#[tokio::test]
async fn gatewayd_may_not_listen_not_stop_and_not_change() {
    let (fleet, address) = fleet_with(FaultKind::NeverListens).await;
    command(address, "start").await;
    let pids = command(address, "processes").await.stdout;
    assert!(!pids.is_empty());
    // Three times as long as a gatewayd takes to listen: there is nothing else to wait for where nothing comes.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(TcpStream::connect((address, 5000)).await.is_err());
    assert_eq!(
        fleet
            .ledger()
            .count(|entry| matches!(entry.event, Event::Listening { .. })),
        0
    );

    fleet.fault(Fault::new(FaultKind::StopLeavesProcess).times(1));
    assert_eq!(command(address, "stop").await.exit, Some(0));
    assert_eq!(command(address, "processes").await.stdout, pids);
    assert_eq!(command(address, "stop").await.exit, Some(0));
    assert_eq!(command(address, "processes").await.stdout, "");

    fleet.fault(Fault::new(FaultKind::KeepsOldRelease));
    let checkout = "GATEWAYZEN_COMMAND=checkout GATEWAYZEN_RELEASE='v3.34.2' true";
    assert_eq!(command_line(address, checkout).await.exit, Some(0));
    assert!(
        command(address, "release")
            .await
            .stdout
            .starts_with("version=3.33.0\n")
    );
    fleet.fault(Fault::new(FaultKind::WrongSavedWallet {
        address: "rWrong".to_owned(),
    }));
    assert_eq!(command(address, "saved_wallet").await.stdout, "rWrong\n");
}

#[tokio::test]
async fn the_api_may_misbehave() {
    let fleet = fleet(|config| config.second_wallet_closes = true).await;
    let address = host(&fleet, "7").await;
    let api = Api::start(&fleet, address).await;
    let next = |fault| fleet.fault(Fault::new(fault).on("7").times(1));
    next(FaultKind::Api401);
    assert_eq!(api.get(COLD).await.unwrap().0, 401);
    next(FaultKind::ApiHtml500);
    assert_eq!(api.get(COLD).await.unwrap().0, 500);
    next(FaultKind::ApiHtml200);
    let (status, page) = api.get(COLD).await.unwrap();
    assert_eq!((status, page.starts_with("<!DOCTYPE html>")), (200, true));
    next(FaultKind::ApiCloses);
    api.get(COLD).await.expect_err("the connection closes");
    next(FaultKind::ApiSlow { ms: 300 });
    let started = std::time::Instant::now();
    assert_eq!(api.get(COLD).await.unwrap().0, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    next(FaultKind::OtherCertificate);
    let error = api
        .get(COLD)
        .await
        .expect_err("the certificate is not the host's");
    assert!(error.to_string().contains("certificate"), "{error}");
    next(FaultKind::OtherWallet {
        address: "rOther".to_owned(),
    });
    assert!(api.get(COLD).await.unwrap().1.contains("rOther"));
    api.post(COLD, json!({ "address": "rOurs" }))
        .await
        .expect_err("a second wallet closes the connection");
    assert!(api.get(COLD).await.unwrap().1.contains("rOther"));
}

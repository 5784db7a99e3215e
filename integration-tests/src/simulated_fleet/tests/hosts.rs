//! Hosts and their gatewayds: what they do when they are well, and each way in which they are not.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{
    Api, Ran, command, command_line, ec2, fleet, fleet_key, host, key, login, run, seen, soon, text,
};
use crate::simulated_fleet::{Event, Fault, FaultKind, SimulatedFleet, commit_of};

const COLD: &str = "/v1/config/wallets/cold";
const DOMAIN: &str = "/v1/config/domain";

/// A fleet with one host, and the fault that befalls it once it is up.
async fn fleet_with(fault: FaultKind) -> (SimulatedFleet, Ipv4Addr) {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    fleet.fault(Fault::new(fault).on("7"));
    (fleet, address)
}

#[tokio::test]
async fn a_host_answers_from_its_boot_to_its_end() {
    let fleet = fleet(|config| config.times.ssh_ms = 1000).await;
    let (_, xml) = run(&fleet, "7", "one").await;
    let address: Ipv4Addr = text(&xml, "privateIpAddress").parse().unwrap();
    seen(&fleet, |entry| entry.event == Event::Running).await;
    let refused = TcpStream::connect((address, 2222)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    seen(&fleet, |entry| matches!(entry.event, Event::HostUp { .. })).await;

    let unknown = command(address, "dance").await;
    assert_eq!(
        (unknown.exit, unknown.stderr.contains("not found")),
        (Some(127), true)
    );
    let stranger = login(address, key(9))
        .await
        .err()
        .expect("a stranger's key is refused");
    assert!(matches!(stranger, russh::Error::NotAuthenticated), "{stranger}");
    let session = login(address, fleet_key()).await.unwrap();
    ec2(
        &fleet,
        "TerminateInstances",
        &[("InstanceId.1", &text(&xml, "instanceId"))],
    )
    .await;
    seen(&fleet, |entry| entry.event == Event::Terminated).await;
    assert!(
        TcpStream::connect((address, 2222)).await.is_err(),
        "the port closes with its host"
    );
    soon(async {
        while !session.is_closed() {
            tokio::task::yield_now().await
        }
    })
    .await;
}

#[tokio::test]
async fn gatewayd_is_set_up_started_updated_and_stopped() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    assert_eq!(command(address, "processes").await.stdout, "");
    let api = Api::start(&fleet, address).await;
    assert_eq!(
        (api.key.len(), fleet.hosts()[0].api_key.clone()),
        (64, Some(api.key.clone()))
    );
    assert!(
        command(address, "get_key").await.stdout.contains(&api.key),
        "the key is kept"
    );
    assert_eq!(
        command(address, "tls").await.stdout,
        api.pem,
        "the certificate is kept"
    );
    let pids = command(address, "processes").await.stdout;
    assert_eq!(pids.lines().count(), 5, "{pids}");

    assert_eq!(
        api.get(COLD).await.unwrap(),
        (200, r#"{"COLD_WALLET":{"address":{}}}"#.to_owned())
    );
    for wrong in [
        "gatewayzen:nonsense",
        &format!(":{}", api.key),
        &format!("{}:", api.key),
    ] {
        assert_eq!(
            api.call("GET", COLD, wrong, String::new()).await.unwrap().0,
            401,
            "{wrong}"
        );
    }
    assert_eq!(
        api.call("GET", DOMAIN, &format!("{}:x", api.key), String::new())
            .await
            .unwrap()
            .0,
        200
    );

    let checkout = |tag| {
        format!("GATEWAYZEN_COMMAND=checkout GATEWAYZEN_RELEASE='{tag}' flock lock sh -c 'git checkout'")
    };
    assert_eq!(command_line(address, &checkout("v9.9.9")).await.exit, Some(1));
    let before = command(address, "release").await.stdout;
    assert_eq!(
        before,
        format!("version=3.33.0\ncommit={}\n", commit_of("v3.33.0"))
    );
    assert_eq!(command(address, "stop").await.exit, Some(0));
    assert_eq!(command(address, "processes").await.stdout, "");
    assert!(
        TcpStream::connect((address, 5000)).await.is_err(),
        "a stopped gatewayd listens no more"
    );
    assert_eq!(command_line(address, &checkout("v3.34.2")).await.exit, Some(0));
    assert!(
        command(address, "release")
            .await
            .stdout
            .starts_with("version=3.34.2\n")
    );

    api.started(&fleet).await;
    let again = command(address, "processes").await.stdout;
    assert_ne!(again, pids, "new processes");
    let second = command(address, "start").await;
    assert_eq!(
        (second.exit, second.stderr.contains("already running")),
        (Some(0), true)
    );
    assert_eq!(command(address, "processes").await.stdout, again);
}

#[tokio::test]
async fn a_wallet_is_forgotten_at_restart_unless_saved() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let api = Api::start(&fleet, address).await;
    let set = json!({ "address": "rFirst" });
    assert_eq!(
        api.post(COLD, set.clone()).await.unwrap(),
        (201, r#"{"COLD_WALLET":"rFirst"}"#.to_owned())
    );
    assert!(api.get(COLD).await.unwrap().1.contains("rFirst"));
    assert_eq!(command(address, "saved_wallet").await.stdout, "\n");
    let (status, page) = api.post(COLD, json!({ "address": "rSecond" })).await.unwrap();
    assert_eq!((status, page.starts_with("<!DOCTYPE html>")), (500, true));

    command(address, "stop").await;
    api.started(&fleet).await;
    assert_eq!(
        api.get(COLD).await.unwrap().1,
        r#"{"COLD_WALLET":{"address":{}}}"#
    );
    seen(&fleet, |entry| {
        entry.event
            == Event::WalletForgotten {
                address: "rFirst".to_owned(),
            }
    })
    .await;

    api.post(COLD, set).await.unwrap();
    assert_eq!(api.get(DOMAIN).await.unwrap().1, r#"{"DOMAIN":"example.com"}"#);
    assert_eq!(
        api.post(DOMAIN, json!({ "domain": "example.com" }))
            .await
            .unwrap()
            .0,
        200
    );
    command(address, "stop").await;
    api.started(&fleet).await;
    assert!(api.get(COLD).await.unwrap().1.contains("rFirst"));
    assert_eq!(command(address, "saved_wallet").await.stdout, "rFirst\n");
}

#[tokio::test]
async fn the_time_of_the_simulation_is_accounted_for() {
    let fleet = fleet(|config| {
        config.times.commands_ms.insert("get_key".to_owned(), 250);
        config.times.start_ms = 150;
    })
    .await;
    let address = host(&fleet, "7").await;
    Api::start(&fleet, address).await;
    let time = fleet.ledger().simulated_times()["7"];
    // get_key 250, tls and start 20 each; boot 200 and 100 until SSH.
    assert!((290..20_000).contains(&time.command_ms), "{time:?}");
    assert!((300..20_000).contains(&time.boot_ms), "{time:?}");
    assert!((150..20_000).contains(&time.start_ms), "{time:?}");
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
    let hangs = || {
        fleet
            .shared
            .faults
            .list()
            .iter()
            .any(|fault| fault.times == Some(0))
    };
    soon(async {
        while !hangs() {
            tokio::task::yield_now().await;
        }
    })
    .await;
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

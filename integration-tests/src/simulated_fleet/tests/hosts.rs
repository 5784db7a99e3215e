//! Hosts and their gatewayds when they are well.

use std::net::Ipv4Addr;

use serde_json::json;
use tokio::net::TcpStream;

use super::client::{
    Api, command, command_line, ec2, fleet, fleet_key, host, key, login, run, seen, soon, text,
};
use crate::simulated_fleet::{Event, commit_of};

pub(crate) const COLD: &str = "/v1/config/wallets/cold";
const DOMAIN: &str = "/v1/config/domain";

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

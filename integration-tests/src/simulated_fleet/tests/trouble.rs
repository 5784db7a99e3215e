//! What befalls whole hosts and connections: reboots, deaths, closed ports, full disks, silence, too many at once.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{
    Api, befallen, command, command_line, ec2, fleet, fleet_key, host, login, run, seen, soon, text,
};
use crate::simulated_fleet::{Bucket, Event, Fault, FaultKind, MaxStartups, SimulatedFleet, Throttle};

const COLD: &str = "/v1/config/wallets/cold";

/// Waits until a port answers.
async fn answers(address: std::net::Ipv4Addr) {
    soon(async {
        while TcpStream::connect((address, 2222)).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn happened(fleet: &SimulatedFleet, name: &str) -> u64 {
    fleet.faults_happened().get(name).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_reboot_ends_processes_and_forgets_an_unsaved_wallet() {
    let fleet = fleet(|config| config.times.reboot_ms = 400).await;
    let address = host(&fleet, "7").await;
    let api = Api::start(&fleet, address).await;
    api.post(COLD, json!({ "address": "rUnsaved" })).await.unwrap();
    let session = login(address, fleet_key()).await.unwrap();
    let before = Instant::now();
    assert!(fleet.reboot(&fleet.hosts()[0].instance));
    let forgotten = Event::WalletForgotten {
        address: "rUnsaved".to_owned(),
    };
    assert_eq!(fleet.ledger().count(|entry| entry.event == forgotten), 1);
    soon(async {
        while !session.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    answers(address).await;
    assert!(
        before.elapsed() >= Duration::from_millis(400),
        "SSH is away for a while"
    );
    assert_eq!(command(address, "processes").await.stdout, "");
    assert!(
        TcpStream::connect((address, 5000)).await.is_err(),
        "gatewayd is down"
    );
    assert!(
        command(address, "get_key").await.stdout.contains(&api.key),
        "the disk stays"
    );
    api.started(&fleet).await;
    assert_eq!(
        api.get(COLD).await.unwrap().1,
        r#"{"COLD_WALLET":{"address":{}}}"#
    );
    assert_eq!(happened(&fleet, "reboot"), 1);
    assert_eq!(
        fleet
            .ledger()
            .count(|entry| matches!(entry.event, Event::HostUp { .. })),
        1
    );
}

#[tokio::test]
async fn a_command_may_end_in_a_reboot() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let reboots = FaultKind::CommandReboots {
        command: Some("get_key".to_owned()),
    };
    fleet.fault(Fault::new(reboots).times(1));
    assert_eq!(command(address, "get_key").await.exit, None);
    assert_eq!(fleet.hosts()[0].api_key, None, "it had no effect");
    answers(address).await;
    assert_eq!(
        command(address, "get_key").await.exit,
        Some(0),
        "the lock went with the boot"
    );
}

#[tokio::test]
async fn a_running_instance_may_die_by_itself() {
    let fleet = fleet(|_| {}).await;
    fleet.fault(Fault::new(FaultKind::DiesRunning { ms: 200 }).on("7"));
    run(&fleet, "7", "one").await;
    let running = seen(&fleet, |entry| entry.event == Event::Running).await;
    let died = seen(&fleet, |entry| entry.event == Event::Died).await;
    assert!(died.at_ms >= running.at_ms + 200, "{running:?} {died:?}");
    assert_eq!(fleet.hosts()[0].state, "terminated");
    assert_eq!(happened(&fleet, "dies_running"), 1);
}

#[tokio::test]
async fn a_host_may_refuse_connections_for_a_time() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let open = login(address, fleet_key()).await.unwrap();
    fleet.fault(Fault::new(FaultKind::ConnectionRefused { ms: 400 }).times(1));
    soon(login(address, fleet_key())).await.err().expect("cut");
    let before = Instant::now();
    soon(async {
        while TcpStream::connect((address, 2222)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(async {
        while !open.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    answers(address).await;
    assert!(
        before.elapsed() >= Duration::from_millis(300),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(command(address, "release").await.exit, Some(0));
}

#[tokio::test]
async fn a_disk_may_be_full() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let api = Api::start(&fleet, address).await;
    api.post(COLD, json!({ "address": "rUnsaved" })).await.unwrap();
    fleet.fault(Fault::new(FaultKind::DiskFull));
    for name in [
        "get_key", "tls", "start", "fetch", "checkout", "install", "migrate",
    ] {
        let ran = command(address, name).await;
        let full = ran.stderr.contains("No space left on device");
        assert_eq!((ran.exit, full), (Some(1), true), "{name}");
    }
    assert_eq!(
        command(address, "release").await.exit,
        Some(0),
        "what only reads goes on"
    );
    let (status, _) = api
        .post("/v1/config/domain", json!({ "domain": "x" }))
        .await
        .unwrap();
    assert_eq!((status, fleet.hosts()[0].saved_wallet.clone()), (500, None));
    fleet.clear_faults();
    assert_eq!(command(address, "get_key").await.exit, Some(0));
    assert_eq!(happened(&fleet, "disk_full"), 8);
}

#[tokio::test]
async fn a_full_disk_has_no_room_for_the_number_of_a_new_lease() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let run = async |name: &str, lease: i64| {
        let line = format!("GATEWAYZEN_COMMAND={name} GATEWAYZEN_LEASE={lease} true");
        command_line(address, &line).await
    };
    assert_eq!(run("start", 5).await.exit, Some(0));
    fleet.fault(Fault::new(FaultKind::DiskFull));
    for name in ["stop", "processes", "release"] {
        let ran = run(name, 6).await;
        let full = ran.stderr.contains("No space left on device");
        assert_eq!(
            (ran.exit, ran.stdout.as_str(), full),
            (Some(1), "", true),
            "{name}"
        );
    }
    assert_eq!(fleet.hosts()[0].pids.len(), 5, "nothing was stopped");
    // The number of this one is there already, and was not replaced.
    assert_eq!(run("processes", 5).await.exit, Some(0));
    assert_eq!(run("stop", 5).await.exit, Some(0));
    assert_eq!(
        run("start", 5).await.exit,
        Some(1),
        "what writes fails all the same"
    );
    assert!(fleet.hosts()[0].pids.is_empty());
    assert_eq!(happened(&fleet, "disk_full"), 4);
    fleet.clear_faults();
    assert_eq!(run("stop", 6).await.exit, Some(0));
    assert_eq!(run("stop", 5).await.exit, Some(76));
}

#[tokio::test]
async fn a_session_may_hang_before_its_command() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    fleet.fault(Fault::new(FaultKind::SessionHangs).times(1));
    let mut hanging = tokio::spawn(command_line(address, "GATEWAYZEN_COMMAND=get_key true"));
    befallen(&fleet).await;
    let ended = tokio::time::timeout(Duration::from_millis(500), &mut hanging).await;
    assert!(ended.is_err(), "it hangs");
    hanging.abort();
    assert_eq!(fleet.hosts()[0].api_key, None);
    assert_eq!(command(address, "get_key").await.exit, Some(0), "no lock is held");
}

#[tokio::test]
async fn a_command_may_print_something_else() {
    let fleet = fleet(|_| {}).await;
    let address = host(&fleet, "7").await;
    let prints = FaultKind::CommandPrints {
        command: Some("get_key".to_owned()),
        text: "Segmentation fault\n".to_owned(),
    };
    fleet.fault(Fault::new(prints).times(1));
    let ran = command(address, "get_key").await;
    assert_eq!((ran.exit, ran.stdout.as_str()), (Some(0), "Segmentation fault\n"));
    assert!(fleet.hosts()[0].api_key.is_some(), "it took effect");
}

#[tokio::test]
async fn too_many_that_do_not_log_in_are_dropped() {
    let limit = MaxStartups {
        start: 2,
        rate: 0.5,
        full: 4,
    };
    assert_eq!(
        [1, 2, 3, 4, 9].map(|others| limit.drops(others)),
        [0.0, 0.5, 0.75, 1.0, 1.0]
    );
    let fleet = fleet(|config| {
        config.max_startups = Some(MaxStartups {
            start: 1,
            rate: 1.0,
            full: 1,
        });
    })
    .await;
    let address = host(&fleet, "7").await;
    let first = login(address, fleet_key()).await.unwrap();
    let mut silent = TcpStream::connect((address, 2222))
        .await
        .expect("who has logged in does not count");
    let mut greeting = [0; 4];
    soon(silent.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"SSH-");
    let mut dropped = TcpStream::connect((address, 2222)).await.unwrap();
    let mut said = String::new();
    soon(dropped.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "Exceeded MaxStartups\r\n");
    silent.shutdown().await.unwrap();
    drop((silent, first));
    soon(async {
        while login(address, fleet_key()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(happened(&fleet, "max_startups") >= 1);
}

#[tokio::test]
async fn calls_beyond_the_buckets_are_refused() {
    let fleet = fleet(|config| {
        config.throttle = Some(Throttle {
            describe: Bucket::new(2.0, 1.0),
            run: Bucket::new(2.0, 0.0),
            terminate: Bucket::new(2.0, 0.0),
            instances: Bucket::new(1.0, 0.0),
        });
    })
    .await;
    let code = |(status, xml): (u16, String)| {
        if status == 200 {
            String::new()
        } else {
            text(&xml, "Code")
        }
    };
    assert_eq!(code(run(&fleet, "1", "one").await), "");
    let limited = "RequestLimitExceeded";
    assert_eq!(
        code(run(&fleet, "2", "two").await),
        limited,
        "instances are counted"
    );
    let ended = fleet.hosts()[0].instance.clone();
    let id = [("InstanceId.1", ended.as_str())];
    assert_eq!(code(ec2(&fleet, "TerminateInstances", &id).await), "");
    assert_eq!(code(ec2(&fleet, "TerminateInstances", &id).await), "");
    assert_eq!(code(ec2(&fleet, "TerminateInstances", &id).await), limited);
    for wanted in ["", "", limited] {
        assert_eq!(code(ec2(&fleet, "DescribeInstances", &[]).await), wanted);
    }
    let images = ec2(&fleet, "DescribeImages", &[]).await;
    assert_eq!(code(images), "", "each API has a bucket of its own");
    soon(async {
        while ec2(&fleet, "DescribeInstances", &[]).await.0 != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(happened(&fleet, "throttled") >= 3);
}

#[tokio::test]
async fn a_fleet_of_thousands_takes_a_network_of_its_own() {
    let first = fleet(|config| config.network = Some("/16".to_owned())).await;
    let second = fleet(|config| config.network = Some("/16".to_owned())).await;
    assert!(first.network().ends_with("/16"), "{}", first.network());
    assert_ne!(first.network(), second.network());
    host(&first, "7").await;
}

//! Postgres or Redis not there at the start, or gone for a while: nothing is lost, and somebody says why it waits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, PostgresServer, RedisServer, eventually};
use integration_tests::simulated_fleet::{Config, Event, Times};

/// A fleet whose walks last long enough to be cut in the middle.
fn slow() -> Config {
    Config {
        times: Times {
            // Longer than a lease of this bed.
            boot_ms: 2500,
            ssh_ms: 500,
            command_ms: 200,
            ..Times::default()
        },
        ..Config::default()
    }
}

#[tokio::test]
async fn redis_may_be_missing_at_the_start_and_die_in_mid_walk() {
    let mut redis = RedisServer::new().await;
    let bed = Bed::new(Options {
        redis_url: Some(redis.url()),
        fleet: slow(),
        ..Options::default()
    })
    .await;
    let services = bed.start_all();
    let first = bed.launch("first").await;
    // Every service says what it waits for, and none of them ends.
    eventually("all services to say that Redis is not there", async || {
        services.iter().all(|s| s.log().contains("Redis")).then_some(())
    })
    .await;
    let why = bed.why("first").await;
    assert!(why.contains("Redis"), "{why}");
    redis.start().await;
    bed.reached(first, State::Live).await;

    let second = bed.launch("second").await;
    bed.fleet
        .ledger()
        .wait_for(|e| e.gatewayd == second.to_string() && matches!(e.event, Event::Launched { .. }))
        .await;
    redis.kill().await;
    let third = bed.launch("third").await;
    redis.start().await;
    bed.reached(second, State::Live).await;
    bed.reached(third, State::Live).await;
    assert_eq!(bed.fleet.hosts().len(), 3, "one machine for one gatewayd");
}

#[tokio::test]
async fn postgres_may_be_missing_at_the_start_and_die_in_mid_walk() {
    let mut postgres = PostgresServer::new().await;
    postgres.start().await;
    let bed = Bed::new(Options {
        postgres_url: Some(postgres.url()),
        fleet: slow(),
        ..Options::default()
    })
    .await;
    let first = bed.launch("first").await;
    postgres.stop_at_once().await;
    let services = bed.start_all();
    eventually("all services to say that Postgres is not there", async || {
        services
            .iter()
            .all(|s| s.log().contains("Postgres"))
            .then_some(())
    })
    .await;
    let (code, error) = bed.gatewayzen(&["why", "first"]).await.unwrap_err();
    assert_eq!(code, 69, "{error}");
    assert!(error.contains("Postgres"), "{error}");
    postgres.start().await;
    bed.reached(first, State::Live).await;

    let second = bed.launch("second").await;
    bed.fleet
        .ledger()
        .wait_for(|e| e.gatewayd == second.to_string() && matches!(e.event, Event::Launched { .. }))
        .await;
    postgres.stop_at_once().await;
    // Gone for longer than a lease.
    bed.fleet
        .ledger()
        .wait_for(|e| e.gatewayd == second.to_string() && matches!(e.event, Event::HostUp { .. }))
        .await;
    postgres.start().await;
    let row = eventually("the second row to be live", async || {
        let row = bed.repository.gatewayd(second).await.ok()??;
        assert!(row.fault.is_none(), "{:?}", row.fault);
        (row.state == State::Live).then_some(row)
    })
    .await;
    let host = bed
        .fleet
        .hosts()
        .into_iter()
        .find(|h| h.gatewayd == second.to_string())
        .unwrap();
    assert_eq!(row.ripple_address, host.saved_wallet);
    assert_eq!(bed.fleet.hosts().len(), 2, "one machine for one gatewayd");
}

#[tokio::test]
async fn a_stopped_service_gives_its_steps_back() {
    let bed = Bed::new(Options {
        fleet: Config {
            times: Times {
                command_ms: 1500,
                ..Times::default()
            },
            ..Config::default()
        },
        settings: "worker.drain = \"300ms\"\nworker.lease = \"60s\"\nworker.look_again = \"60s\"".into(),
        ..Options::default()
    })
    .await;
    let _others = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let mut first = bed.start("ssh-worker");
    let id = bed.launch("acme").await;
    eventually("the step to be in hand", async || {
        let row = bed.row(id).await;
        (row.state == State::Key && row.lease_owner.is_some()).then_some(())
    })
    .await;
    first.signal("TERM").await;
    assert_eq!(first.ended().await, Some(0), "{}", first.log());
    // With leases of a minute, only giving the row back lets another have it within the test's patience.
    let row = bed.row(id).await;
    assert_eq!((row.lease_owner, row.attempts), (None, 0));
    let _second = bed.start("ssh-worker");
    bed.reached(id, State::Live).await;
}

#[tokio::test]
async fn a_killed_worker_loses_only_time() {
    let bed = Bed::new(Options {
        fleet: slow(),
        ..Options::default()
    })
    .await;
    let _others = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let mut worker = bed.start("ssh-worker");
    let id = bed.launch("acme").await;
    for command in ["get_key", "start"] {
        bed.fleet
            .ledger()
            .wait_for(|e| matches!(&e.event, Event::Command { name, .. } if name == command))
            .await;
        worker.kill().await;
        worker = bed.start("ssh-worker");
    }
    bed.reached(id, State::Live).await;
    assert_eq!(bed.fleet.ledger().count(|e| matches!(e.event, Event::KeyMade)), 1);
    assert_eq!(
        bed.fleet
            .ledger()
            .count(|e| matches!(e.event, Event::CertificateMade { .. })),
        1
    );
}

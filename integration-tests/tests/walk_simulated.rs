//! Whole walks on the simulated fleet: the circle of states, and the door for other Resque clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually, npm_peer};
use integration_tests::simulated_fleet::Event;

/// As an external application does it: one UPDATE, and wait.
async fn walk(bed: &Bed, id: i64, to: State, ends_in: State) {
    bed.write_state(id, to).await.unwrap();
    bed.reached(id, ends_in).await;
}

#[tokio::test]
async fn one_gatewayd_walks_round_every_state() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id: i64 = sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ('acme') RETURNING id")
        .fetch_one(&bed.database.app)
        .await
        .unwrap();
    walk(&bed, id, State::Instance, State::Live).await;
    let live = bed.row(id).await;
    let host = &bed.fleet.hosts()[0];
    assert_eq!(live.instance_id.as_deref(), Some(host.instance.as_str()));
    assert_eq!(live.ripple_address, host.running_wallet);
    assert_eq!(
        live.ripple_address, host.saved_wallet,
        "a restart must not forget the wallet"
    );
    assert_eq!(live.tls_fingerprint, host.certificate);
    assert_eq!(live.release_in_place.as_deref(), Some("3.33.0"));
    assert!(live.host_key_fingerprint.unwrap().starts_with("SHA256:"));

    walk(&bed, id, State::Stop, State::Stopped).await;
    assert!(bed.fleet.hosts()[0].pids.is_empty());
    walk(&bed, id, State::Start, State::Live).await;
    sqlx::query("UPDATE gatewayds SET release = 'v3.34.2'")
        .execute(&bed.database.app)
        .await
        .unwrap();
    walk(&bed, id, State::Update, State::Stopped).await;
    let updated = bed.row(id).await;
    assert_eq!(updated.release_in_place.as_deref(), Some("3.34.2"));
    assert!(
        bed.fleet.hosts()[0].pids.is_empty(),
        "an update never starts gatewayd"
    );
    walk(&bed, id, State::Start, State::Live).await;
    walk(&bed, id, State::Terminate, State::Terminated).await;
    let ended = bed.row(id).await;
    assert_eq!(
        (ended.instance_id, ended.private_address, ended.tls_fingerprint),
        (None, None, None)
    );
    assert_eq!(ended.ripple_address, live.ripple_address, "the wallet stays");

    // Built anew, with the same wallet, on another machine, with the release of the golden AMI.
    sqlx::query("UPDATE gatewayds SET release = NULL")
        .execute(&bed.database.app)
        .await
        .unwrap();
    walk(&bed, id, State::Instance, State::Live).await;
    assert_eq!(bed.row(id).await.ripple_address, live.ripple_address);
    let launches = bed
        .fleet
        .ledger()
        .count(|e| matches!(e.event, Event::Launched { .. }));
    let ended = bed.fleet.ledger().count(|e| matches!(e.event, Event::Terminated));
    assert_eq!((launches, ended), (2, 1));

    let moves: Vec<String> = bed
        .repository
        .history(id)
        .await
        .unwrap()
        .into_iter()
        .map(|h| format!("{} {}", h.event, h.to_state))
        .collect();
    let walked = "created new|moved instance|moved key|moved start|moved wallet|moved live|moved stop|moved stopped|\
        moved start|moved wallet|moved live|moved update|moved stopped|moved start|moved wallet|moved live|\
        moved terminate|moved terminated|moved instance|moved key|moved start|moved wallet|moved live";
    assert_eq!(moves.join("|"), walked);
}

#[tokio::test]
async fn a_foreign_client_drives_a_walk_without_any_dispatcher() {
    let bed = Bed::new(Options::default()).await;
    let imagined: i64 = sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ('imagined') RETURNING id")
        .fetch_one(&bed.database.app)
        .await
        .unwrap();
    let wanted = bed.launch("wanted").await;
    let _workers = ["instance-worker", "ssh-worker", "wallet-worker"].map(|name| bed.start(name));
    for id in [imagined, wanted] {
        npm_peer(
            "node-resque",
            &[
                "enqueue",
                &bed.redis_url,
                &bed.namespace,
                "initializeEc2Instance",
                &id.to_string(),
            ],
        )
        .await;
    }
    bed.reached(wanted, State::Live).await;
    let row = bed.row(imagined).await;
    assert_eq!(
        (row.state, row.generation, row.attempts),
        (State::New, 1, 0),
        "a job for a row in `new` changes nothing"
    );
    assert_eq!(bed.repository.history(imagined).await.unwrap().len(), 1);
    assert_eq!(bed.fleet.hosts().len(), 1);
}

#[tokio::test]
async fn looking_again_grows_no_backlog() {
    let bed = Bed::new(Options {
        settings: "worker.look_again = \"100ms\"\ndispatcher.period = \"50ms\"".into(),
        ..Options::default()
    })
    .await;
    let queue = bed.queue().await;
    let _dispatchers = [bed.start("dispatcher"), bed.start("dispatcher")];
    for n in 0..20 {
        bed.launch(&format!("row-{n}")).await;
    }
    eventually("all jobs to be pushed", async || {
        (queue.len("initializeEc2Instance").await.unwrap() == 20).then_some(())
    })
    .await;
    // Each row comes due ten more times while nobody takes its job.
    for _ in 0..10 {
        let before: Option<String> = sqlx::query_scalar("SELECT min(due_at)::text FROM gatewayds")
            .fetch_one(&bed.database.admin)
            .await
            .unwrap();
        eventually("the rows to be looked at again", async || {
            let now: Option<String> = sqlx::query_scalar("SELECT min(due_at)::text FROM gatewayds")
                .fetch_one(&bed.database.admin)
                .await
                .unwrap();
            (now > before).then_some(())
        })
        .await;
    }
    assert_eq!(queue.len("initializeEc2Instance").await.unwrap(), 20);
}

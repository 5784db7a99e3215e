//! Two versions side by side: the services of the previous release, as `deploy/dev/previous` built them from history, on the
//! schema of this one, and in its services' places, one after the other, both ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use futures_util::future::join_all;
use gatewayzen_core::State;
use integration_tests::harness::{
    Bed, CIRCLE, Database, Options, PostgresServer, Previous, ServiceProcess, eventually, new_row, run, walk,
};
use integration_tests::judge::nothing_is_broken;
use integration_tests::simulated_fleet::{Config, Times};

/// Rows that are on their way at any moment.
const WALKERS: usize = 4;

/// A fleet whose steps last long enough for one to be in hand whenever a service ends, which then gives it back.
async fn bed(database: Option<Database>) -> Bed {
    let times = Times {
        command_ms: 100,
        ..Times::default()
    };
    let fleet = Config {
        times,
        ..Config::default()
    };
    Bed::new(Options {
        fleet,
        settings: "worker.drain = \"100ms\"\nworker.max_attempts = 100\n".into(),
        database,
        ..Options::default()
    })
    .await
}

/// Rows that walk round and round until the story is over, and then to `live`. Says how many rounds there were.
async fn load<T>(bed: &Bed, story: impl Future<Output = T>) -> T {
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let walkers = (0..WALKERS).map(|n| {
        let (over, rounds) = (&over, &rounds);
        async move {
            let id = new_row(bed, &format!("walker-{n}")).await;
            walk(bed, id, CIRCLE[0]).await;
            while !over.load(Relaxed) {
                for leg in &CIRCLE[1..] {
                    walk(bed, id, *leg).await;
                }
                rounds.fetch_add(1, Relaxed);
            }
        }
    });
    let story = async {
        let end = story.await;
        over.store(true, Relaxed);
        end
    };
    let (end, _) = tokio::join!(story, join_all(walkers));
    println!("{} rounds of {WALKERS} rows meanwhile", rounds.into_inner());
    end
}

/// A worker has moved a row; of a dispatcher nobody can tell.
async fn has_worked(bed: &Bed, service: &ServiceProcess) {
    if service.name == "dispatcher" {
        return;
    }
    eventually(&format!("{} to move a row", service.name), async || {
        let moved: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM gatewayd_history WHERE event = 'moved' AND by LIKE $1 || '@%:' || $2)",
        )
        .bind(&service.name)
        .bind(service.pid().to_string())
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
        moved.then_some(())
    })
    .await;
}

/// A gatewayd that is begun now becomes live.
async fn one_more(bed: &Bed) {
    let id = new_row(bed, &format!("row-{}", uuid::Uuid::new_v4().simple())).await;
    walk(bed, id, CIRCLE[0]).await;
}

/// One service after the other: its successor begins beside it, then it ends in order. All the while rows walk, of which
/// both versions take steps.
async fn replace(
    bed: &Bed,
    services: Vec<ServiceProcess>,
    start: impl Fn(&str) -> ServiceProcess,
) -> Vec<ServiceProcess> {
    let mut successors = Vec::new();
    for mut service in services {
        has_worked(bed, &service).await;
        let successor = start(&service.name);
        has_worked(bed, &successor).await;
        one_more(bed).await;
        service.signal("TERM").await;
        assert_eq!(service.ended().await, Some(0), "{}", service.log());
        one_more(bed).await;
        successors.push(successor);
    }
    successors
}

async fn every_row_is_live(bed: &Bed) {
    nothing_is_broken(bed).await;
    let elsewhere = "SELECT count(*)::text FROM gatewayds WHERE state <> 'live'";
    assert_eq!(bed.database.text(elsewhere).await, "0");
}

#[tokio::test]
async fn the_previous_services_walk_on_the_new_schema() {
    let Some(previous) = Previous::find() else { return };
    let bed = bed(None).await;
    let services = previous.start_all(&bed);
    let mut rows = Vec::new();
    for n in 0..WALKERS {
        rows.push(new_row(&bed, &format!("row-{n}")).await);
    }
    join_all(rows.iter().map(|id| walk(&bed, *id, CIRCLE[0]))).await;
    for leg in &CIRCLE[1..4] {
        walk(&bed, rows[0], *leg).await;
    }
    walk(&bed, rows[1], CIRCLE[4]).await;
    nothing_is_broken(&bed).await;
    for (id, state) in rows.iter().zip(
        [State::Live, State::Terminated]
            .into_iter()
            .chain([State::Live; WALKERS - 2]),
    ) {
        assert_eq!(bed.row(*id).await.state, state, "row {id}");
    }
    for service in &services {
        has_worked(&bed, service).await;
    }
}

#[tokio::test]
async fn a_roll_from_the_previous_version_loses_no_step() {
    let Some(previous) = Previous::find() else { return };
    // Of its own: the roles belong to the whole server, and are to be as the previous version made them.
    let mut postgres = PostgresServer::new().await;
    postgres.start().await;
    let bed = bed(Some(previous.database(&postgres.url()).await)).await;
    let services = previous.start_all(&bed);
    let _successors = load(&bed, async {
        one_more(&bed).await;
        let migrator = [(
            "GATEWAYZEN_POSTGRES__URL".to_owned(),
            bed.database.url("gatewayzen_migrator"),
        )];
        let done = run("gatewayzen", &["migrate"], &migrator).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        one_more(&bed).await;
        replace(&bed, services, |name| bed.start(name)).await
    })
    .await;
    every_row_is_live(&bed).await;
}

#[tokio::test]
async fn going_back_to_the_previous_services_loses_nothing() {
    let Some(previous) = Previous::find() else { return };
    let bed = bed(None).await;
    let services = bed.start_all();
    let _successors = load(&bed, async {
        one_more(&bed).await;
        // From the other end, so that other versions meet than on the way here.
        let services = services.into_iter().rev().collect();
        replace(&bed, services, |name| previous.start(&bed, name)).await
    })
    .await;
    every_row_is_live(&bed).await;
}

//! One chaos run: a fleet in all its walks, everything that goes wrong, then quiet and the judge.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::crew::{Crew, Size};
use super::report::Report;
use super::world::World;
use super::{clients, judge_redis, machines, operators, outages, progress, quiet, strays, writers};
use crate::judge::{self, Broken, Evidence};

/// What a run is told.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How long the troubles last.
    pub time: Duration,
    /// Rows at the beginning.
    pub gatewayds: i64,
    /// Processes.
    pub size: Size,
}

/// Runs it all. Gives the report, the evidence and the world, which holds the logs until it is dropped.
pub async fn run(orders: Orders) -> (Report, Evidence, Arc<World>) {
    let world = World::new(orders.seed, true).await;
    let mut random = fastrand::Rng::with_seed(orders.seed);
    insert(&world, orders.gatewayds).await;
    let crew = Crew::start(&world, orders.size);
    world.highest_id.store(orders.gatewayds, Ordering::Relaxed);
    let begun = Instant::now();
    execute(&world, "UPDATE gatewayds SET state = 'instance'").await;

    // Inserts may add a tenth.
    let most = orders.gatewayds + (orders.gatewayds / 10).max(3);
    // Each row is written every half minute or so; more than this, two cores cannot follow.
    let rate = (orders.gatewayds as f64 / 20.0).clamp(4.0, 40.0);
    let stop = CancellationToken::new();
    let mut actors = JoinSet::new();
    actors.spawn(machines::trouble(world.clone(), random.fork(), stop.clone()));
    actors.spawn(writers::write(
        world.clone(),
        random.fork(),
        rate,
        most,
        stop.clone(),
    ));
    actors.spawn(operators::work(
        world.clone(),
        random.fork(),
        rate / 3.0,
        stop.clone(),
    ));
    actors.spawn(clients::push(
        world.clone(),
        random.fork(),
        rate / 2.0,
        stop.clone(),
    ));
    actors.spawn(strays::launch(world.clone(), random.fork(), stop.clone()));
    let settled = CancellationToken::new();
    let scheduler = tokio::spawn(clients::schedule(world.clone(), settled.clone()));
    let timer = async {
        tokio::time::sleep(orders.time).await;
        stop.cancel();
    };
    let watch = async {
        let mut progress = progress::Progress::new(begun);
        while stop
            .run_until_cancelled(tokio::time::sleep(Duration::from_secs(1)))
            .await
            .is_some()
        {
            crew.look().await;
            progress.tell(&world).await;
        }
    };
    tokio::join!(
        timer,
        watch,
        crew.trouble(random.fork(), &stop),
        outages::redis(&world, random.fork(), &stop),
        outages::postgres(&world, random.fork(), &stop)
    );
    while let Some(ended) = actors.join_next().await {
        ended.expect("an actor of the chaos run");
    }
    println!("quiet: the troubles are over");
    crew.look().await;
    quiet::settle(&world).await;
    crew.look().await;
    settled.cancel();
    scheduler.await.expect("the scheduler");
    let seconds = begun.elapsed().as_secs_f64();
    let evidence = world.evidence().await;
    let mut broken = judge::broken_once_settled(&evidence);
    let left = judge_redis::leftovers(&world).await;
    broken.extend(
        left.into_iter()
            .map(|what| Broken::new("nothing_hangs_in_redis", None, what)),
    );
    let seen = world.tally.all_broken();
    broken.extend(
        seen.into_iter()
            .map(|what| Broken::new("seen_on_the_way", None, what)),
    );
    broken.extend(panics(&world));
    let mut report = Report {
        kind: "chaos",
        seed: orders.seed,
        minutes: orders.time.as_secs_f64() / 60.0,
        seconds,
        machine_faults: world.bed.fleet.faults_happened(),
        deeds: world.tally.counts(),
        peak_memory_kb: crew.peaks(),
        stale_outcomes: lines(&world, "the lease was lost").len(),
        broken,
        ..Report::default()
    };
    report.read(&evidence);
    crew.end().await;
    (report, evidence, world)
}

/// A service that panics has a defect, even where the law held.
fn panics(world: &World) -> impl Iterator<Item = Broken> {
    let lines = lines(world, "panicked at").into_iter().take(10);
    lines.map(|line| Broken::new("no_panic", None, line))
}

/// The lines of the services' logs that hold a text.
fn lines(world: &World, text: &str) -> Vec<String> {
    let logs = world.bed.log_files().into_iter();
    logs.flat_map(|(name, log)| {
        let found = log.lines().filter(|line| line.contains(text));
        found.map(|line| format!("{name}: {line}")).collect::<Vec<_>>()
    })
    .collect()
}

/// Rows in `new`.
pub(super) async fn insert(world: &World, count: i64) {
    sqlx::query("INSERT INTO gatewayds (name) SELECT 'gateway-' || n FROM generate_series(1, $1) AS n")
        .bind(count)
        .execute(&world.bed.database.app)
        .await
        .expect("rows");
}

pub(super) async fn execute(world: &World, sql: &'static str) {
    let written = sqlx::query(sql).execute(&world.bed.database.app).await;
    written.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

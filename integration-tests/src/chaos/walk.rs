//! The walk of a thousand: rows from `new` to `live`, nothing going wrong, and how long it took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crew::{Crew, Size};
use super::progress;
use super::report::Report;
use super::run::{execute, insert};
use super::world::World;
use crate::harness::redis_connection;
use crate::judge::{self, Broken, Evidence};

/// Walks so many rows to `live`. More than this long without any move is told as broken.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Runs the walk. Gives the report, the evidence and the world.
pub async fn walk(seed: u64, gatewayds: i64, size: Size) -> (Report, Evidence, Arc<World>) {
    let world = World::new(seed, false).await;
    let (postgres_before, redis_before) = (
        postgres_bytes(&world).await,
        redis_bytes(&world, "used_memory").await,
    );
    let crew = Crew::start(&world, size);
    insert(&world, gatewayds).await;
    let begun = Instant::now();
    execute(&world, "UPDATE gatewayds SET state = 'instance'").await;
    let mut progress = progress::Progress::new(begun);
    let (mut moves, mut moved) = (0, Instant::now());
    loop {
        let (live, faulty, now): (i64, i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'live'), count(*) FILTER (WHERE fault IS NOT NULL),
                    sum(generation)::bigint FROM gatewayds",
        )
        .fetch_one(&world.bed.database.admin)
        .await
        .expect("Postgres");
        if now != moves {
            (moves, moved) = (now, Instant::now());
        }
        if live + faulty == gatewayds {
            break;
        }
        if moved.elapsed() > STANDSTILL {
            world
                .tally
                .broken(format!("no row moved for {} s", STANDSTILL.as_secs()));
            break;
        }
        crew.look().await;
        progress.tell(&world).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    crew.look().await;
    let processor_seconds = crew.processor_seconds().await;
    let postgres = postgres_bytes(&world).await - postgres_before;
    let redis = redis_bytes(&world, "used_memory_peak").await - redis_before;
    let evidence = world.evidence().await;
    let mut broken = judge::broken_once_settled(&evidence);
    let faulty = evidence.rows.values().filter(|row| row.fault.is_some());
    broken.extend(faulty.map(|row| {
        let fault = row.fault.clone().unwrap_or_default();
        Broken::new("a_walk_without_faults", Some(row.id), fault)
    }));
    let seen = world.tally.all_broken();
    broken.extend(
        seen.into_iter()
            .map(|what| Broken::new("seen_on_the_way", None, what)),
    );
    let mut report = Report {
        kind: "walk",
        seed,
        seconds,
        machine_faults: world.bed.fleet.faults_happened(),
        peak_memory_kb: crew.peaks(),
        processor_seconds,
        postgres_kb_per_gatewayd: postgres / 1024.0 / gatewayds as f64,
        redis_peak_kb: redis / 1024.0,
        broken,
        ..Report::default()
    };
    report.read(&evidence);
    crew.end().await;
    (report, evidence, world)
}

/// What the database takes on disk, its log left out.
async fn postgres_bytes(world: &World) -> f64 {
    sqlx::query_scalar("SELECT pg_database_size(current_database())::float8")
        .fetch_one(&world.bed.database.admin)
        .await
        .expect("Postgres")
}

/// A field of what Redis says of its memory.
async fn redis_bytes(world: &World, field: &str) -> f64 {
    let url = world.redis.lock().await.url();
    let mut connection = redis_connection(&url).await;
    let said: String = redis::cmd("INFO")
        .arg("memory")
        .query_async(&mut connection)
        .await
        .expect("Redis");
    let value = said
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().parse().ok())
        .expect("a number")
}

//! What a run shows while it lasts.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::world::World;

/// How often a line is printed.
const PERIOD: Duration = Duration::from_secs(5);

/// The last line, and what it counted.
pub(super) struct Progress {
    begun: Instant,
    told: Instant,
    moves: i64,
}

impl Progress {
    /// Nothing told yet.
    pub(super) fn new(begun: Instant) -> Progress {
        Progress {
            begun,
            told: begun,
            moves: 0,
        }
    }

    /// Prints a line if it is time.
    pub(super) async fn tell(&mut self, world: &World) {
        let since = self.told.elapsed();
        if since < PERIOD {
            return;
        }
        self.told = Instant::now();
        let rows = tokio::time::timeout(Duration::from_secs(1), rows(world)).await;
        let (rows, moves) = match rows {
            Ok(Ok(counted)) => counted,
            _ => ("Postgres is away".to_owned(), self.moves),
        };
        let injected: u64 = world.bed.fleet.faults_happened().values().sum();
        let speed = (moves - self.moves) as f64 / since.as_secs_f64();
        self.moves = moves;
        println!(
            "[{:>5.0} s] {rows} | {injected} faults of machines, {} signals, {} outages | {speed:.1} transitions/s",
            self.begun.elapsed().as_secs_f64(),
            world.tally.sum("SIG"),
            world.tally.sum("Redis") + world.tally.sum("Postgres")
        );
    }
}

/// Rows by state, parked and held ones by themselves, and all moves so far.
async fn rows(world: &World) -> Result<(String, i64), sqlx::Error> {
    let admin = &world.bed.database.admin;
    let counts: Vec<(String, i64)> = sqlx::query_as(
        "SELECT CASE WHEN fault IS NOT NULL THEN 'parked' WHEN hold IS NOT NULL THEN 'held' ELSE state END, count(*)
         FROM gatewayds GROUP BY 1 ORDER BY min((SELECT place FROM states WHERE name = state)), 1",
    )
    .fetch_all(admin)
    .await?;
    let highest = sqlx::query_scalar("SELECT coalesce(max(id), 1) FROM gatewayds")
        .fetch_one(admin)
        .await?;
    world.highest_id.store(highest, Ordering::Relaxed);
    let moves = sqlx::query_scalar("SELECT count(*) FROM gatewayd_history WHERE event = 'moved'")
        .fetch_one(admin)
        .await?;
    let texts: Vec<String> = counts
        .into_iter()
        .map(|(state, count)| format!("{state} {count}"))
        .collect();
    Ok((texts.join(", "), moves))
}

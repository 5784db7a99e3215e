//! After the troubles: everything is well again, parked rows are retried once, and the fleet settles.

use std::time::{Duration, Instant};

use super::world::World;
use crate::judge::{a_gone_machine_is_noticed, no_machine_without_a_row};

/// How long the fleet may take to settle: the longest deadline, twice, and the Redis lease of what was killed.
const SETTLE: Duration = Duration::from_secs(420);

/// Lets the fleet settle. What is still in motion when patience ends is told as broken.
pub(super) async fn settle(world: &World) {
    reached(world).await;
    // Some holds stay: a held row is idle, whatever its state.
    execute(
        world,
        "UPDATE gatewayds SET hold = NULL WHERE hold IS NOT NULL AND id % 3 <> 0",
    )
    .await;
    rows_settle(world, "before the retry").await;
    let retried = execute(
        world,
        "UPDATE gatewayds SET state = state, changed_why = 'the troubles are over' WHERE fault IS NOT NULL AND hold IS NULL",
    )
    .await;
    println!("quiet: {retried} parked rows are retried");
    rows_settle(world, "after the retry").await;
    sweeps_settle(world).await;
    redis_settles(world).await;
}

/// Waits until Postgres answers through its proxy.
async fn reached(world: &World) {
    let end = Instant::now() + Duration::from_secs(60);
    while sqlx::query("SELECT 1")
        .execute(&world.bed.database.admin)
        .await
        .is_err()
    {
        assert!(
            Instant::now() < end,
            "Postgres is not reached 60 s after the troubles"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn execute(world: &World, sql: &'static str) -> u64 {
    let written = sqlx::query(sql).execute(&world.operator).await;
    written
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
        .rows_affected()
}

/// Waits until no row has a step to take or in hand.
async fn rows_settle(world: &World, when: &str) {
    let end = Instant::now() + SETTLE;
    let mut told = Instant::now();
    loop {
        let moving: Vec<(i64, String)> = sqlx::query_as(
            "SELECT id, state FROM gatewayds WHERE lease_until > clock_timestamp()
                OR (due_at IS NOT NULL AND fault IS NULL AND hold IS NULL)",
        )
        .fetch_all(&world.bed.database.admin)
        .await
        .expect("Postgres");
        if moving.is_empty() {
            return;
        }
        if Instant::now() > end {
            for (id, state) in moving {
                world.tally.broken(format!(
                    "row {id} is still moving in {state}, {} s {when}",
                    SETTLE.as_secs()
                ));
            }
            return;
        }
        if told.elapsed() > Duration::from_secs(5) {
            told = Instant::now();
            println!("quiet: {} rows still move, {when}", moving.len());
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Waits until sweeps have found what they must. What they have not is told by the judge.
async fn sweeps_settle(world: &World) {
    let end = Instant::now() + Duration::from_secs(90);
    while Instant::now() < end {
        let evidence = world.evidence().await;
        if no_machine_without_a_row(&evidence).is_empty() && a_gone_machine_is_noticed(&evidence).is_empty() {
            return;
        }
        // The evidence of a long run is large.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

/// Waits until Redis holds no job any more. What stays is told by the judge.
async fn redis_settles(world: &World) {
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end && !super::judge_redis::leftovers(world).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

//! Operators, as the role gatewayzen_operator: they hold, resume, retry and terminate.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::world::World;
use super::writers::PATIENCE;

/// Runs one statement; how many rows it wrote, none when it failed.
async fn run(world: &World, sql: &'static str, id: i64) -> u64 {
    let write = sqlx::query(sql).bind(id).execute(&world.operator);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(done)) => done.rows_affected(),
        _ => 0,
    }
}

/// Works until told to stop.
pub(super) async fn work(
    world: Arc<World>,
    mut random: fastrand::Rng,
    per_second: f64,
    stop: CancellationToken,
) {
    loop {
        let wait = Duration::from_secs_f64(random.f64() * 2.0 / per_second);
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        let id = world.any_id(&mut random);
        let (name, rows) = match random.u32(..20) {
            0..3 => ("hold", run(&world, HOLD, id).await),
            3..9 => ("resume", run(&world, RESUME, id).await),
            9 => ("operator's terminate", run(&world, END_A_PARKED_ONE, id).await),
            // The parked ones are few: they are looked for, from a place by chance on.
            _ => ("retry", run(&world, RETRY, id).await),
        };
        if rows > 0 {
            world.tally.count(name);
        }
    }
}

const HOLD: &str = "UPDATE gatewayds SET hold = 'an operator looks into it' WHERE id = $1 AND hold IS NULL";
const RESUME: &str = "UPDATE gatewayds SET hold = NULL WHERE id IN
    (SELECT id FROM gatewayds WHERE hold IS NOT NULL ORDER BY id < $1, id LIMIT 2)";
const RETRY: &str = "UPDATE gatewayds SET state = state, changed_why = 'an operator tries again' WHERE id IN
    (SELECT id FROM gatewayds WHERE fault IS NOT NULL ORDER BY id < $1, id LIMIT 3)";
const END_A_PARKED_ONE: &str = "UPDATE gatewayds SET state = 'terminate' WHERE id IN
    (SELECT id FROM gatewayds WHERE fault IS NOT NULL AND state NOT IN ('terminate', 'terminated')
     ORDER BY id < $1, id LIMIT 1)";

//! Redis and Postgres: flushed, killed and restarted, cut off, refused, silent.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::proxy::{Mode, Proxy};
use super::world::World;

/// Troubles Redis every so often until told to stop; it runs and is reached at the end.
pub(super) async fn redis(world: &World, mut random: fastrand::Rng, stop: &CancellationToken) {
    while pause(&mut random, stop, 3_000..12_000).await {
        match random.u32(..5) {
            0 => {
                // Past the proxy, and with every key of everybody.
                let url = world.redis.lock().await.url();
                if flush(&url).await.is_ok() {
                    world.tally.count("Redis FLUSHALL");
                }
            }
            1 => {
                world.tally.count("Redis SIGKILL");
                let mut redis = world.redis.lock().await;
                redis.kill().await;
                tokio::time::sleep(Duration::from_millis(random.u64(0..4000))).await;
                redis.start().await;
            }
            _ => line_trouble(world, "Redis", &world.redis_line, &mut random).await,
        }
    }
}

/// Troubles Postgres every so often until told to stop; it runs and is reached at the end.
pub(super) async fn postgres(world: &World, mut random: fastrand::Rng, stop: &CancellationToken) {
    while pause(&mut random, stop, 8_000..25_000).await {
        if random.u32(..3) == 0 {
            world.tally.count("Postgres restart, immediate mode");
            let mut postgres = world.postgres.lock().await;
            postgres.stop_at_once().await;
            tokio::time::sleep(Duration::from_millis(random.u64(0..5000))).await;
            postgres.start().await;
        } else {
            line_trouble(world, "Postgres", &world.postgres_line, &mut random).await;
        }
    }
}

/// Sleeps for a while; false when it is time to stop.
async fn pause(random: &mut fastrand::Rng, stop: &CancellationToken, ms: std::ops::Range<u64>) -> bool {
    let sleep = tokio::time::sleep(Duration::from_millis(random.u64(ms)));
    stop.run_until_cancelled(sleep).await.is_some()
}

async fn line_trouble(world: &World, name: &str, line: &Proxy, random: &mut fastrand::Rng) {
    let time = Duration::from_millis(random.u64(500..7000));
    match random.u32(..4) {
        0 => {
            world.tally.count(format!("{name} connections cut"));
            line.cut();
        }
        1 => {
            world.tally.count(format!("{name} away"));
            line.set(Mode::Refuse);
            line.cut();
            tokio::time::sleep(time).await;
        }
        2 => {
            world.tally.count(format!("{name} silent"));
            line.set(Mode::Hang);
            tokio::time::sleep(time).await;
        }
        _ => {
            // What was sent in the silence is lost with the connections.
            world.tally.count(format!("{name} silent, then cut"));
            line.set(Mode::Hang);
            tokio::time::sleep(time).await;
            line.cut();
        }
    }
    line.set(Mode::Open);
}

async fn flush(url: &str) -> redis::RedisResult<()> {
    let mut connection = redis::Client::open(url)?
        .get_multiplexed_async_connection()
        .await?;
    redis::cmd("FLUSHALL").query_async(&mut connection).await
}

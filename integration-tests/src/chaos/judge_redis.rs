//! What may not be left in Redis once a fleet has settled.

use redis::AsyncCommands as _;

use super::world::World;
use crate::harness::redis_connection;

/// One sentence for each key that should be gone.
pub(super) async fn leftovers(world: &World) -> Vec<String> {
    let mut broken = Vec::new();
    let mut connection = redis_connection(&world.bed.redis_url).await;
    let prefix = format!("{}:", world.bed.namespace);
    let keys: Vec<String> = connection.keys("*").await.expect("keys");
    for key in keys {
        let Some(name) = key.strip_prefix(&prefix) else {
            broken.push(format!("Redis holds {key}, outside the fleet's namespace"));
            continue;
        };
        let what = match name.split(':').next().unwrap_or_default() {
            "queue" => "jobs in a queue",
            "inflight" => "jobs in hand",
            "delayed" | "delayed_queue_schedule" | "timestamps" => "jobs for later",
            "unique" if name.contains(':') => "a marker of a queued job",
            "worker" if !name.ends_with(":started") => "a worker at work",
            _ => continue,
        };
        broken.push(format!("Redis still holds {what}: {name}"));
    }
    broken
}

//! Machines that nobody of the fleet launched: orphans with the fleet's tags, which the sweep must end, and another
//! fleet's, which it must let alone.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::world::World;
use super::writers::PATIENCE;

/// Launches one every so often until told to stop.
pub(super) async fn launch(world: Arc<World>, mut random: fastrand::Rng, stop: CancellationToken) {
    loop {
        let sleep = tokio::time::sleep(Duration::from_millis(random.u64(5_000..20_000)));
        if stop.run_until_cancelled(sleep).await.is_none() {
            return;
        }
        // As a machine that came to be although its attempt was given up: the sweep believes no other.
        let read = sqlx::query_as::<_, (String, i64, String)>(
            "SELECT id::text, gatewayd_id, (SELECT id::text FROM fleet) FROM launch_attempts
             WHERE ended_at IS NOT NULL ORDER BY created_at DESC LIMIT 50",
        )
        .fetch_all(&world.bed.database.admin);
        let Ok(Ok(ended)) = tokio::time::timeout(PATIENCE, read).await else {
            continue;
        };
        if ended.is_empty() {
            continue;
        }
        let (attempt, gatewayd, fleet) = &ended[random.usize(..ended.len())];
        let ours = random.u32(..3) > 0;
        let other = format!("{:08x}-0000-4000-8000-000000000000", random.u32(..));
        let tags = [
            ("gatewayzen:fleet", if ours { fleet } else { &other }),
            ("gatewayzen:gatewayd", &gatewayd.to_string()),
            ("gatewayzen:attempt", attempt),
        ];
        let tags = tags.map(|(key, value)| (key, value.as_str()));
        // None: the network is full, which the report shows by its machines.
        if let Ok(instance) = world.bed.fleet.launch(&tags) {
            world.strays().insert(instance, ours);
            world.tally.count(if ours {
                "orphan launched"
            } else {
                "another fleet's machine"
            });
        }
    }
}

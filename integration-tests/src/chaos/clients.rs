//! Foreign Resque clients: duplicates, garbage, jobs for later, and failed entries queued again.

use std::sync::Arc;
use std::time::Duration;

use gatewayzen_core::{JobArgs, Step};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::World;

/// Reaches Redis as somebody who does not wait long for it.
fn queue(world: &World) -> resque::Queue {
    let config = resque::Config {
        connect_timeout: Duration::from_secs(1),
        response_timeout: Duration::from_secs(2),
        ..world.bed.resque_config()
    };
    resque::Queue::connect_lazy(&config).expect("a URL")
}

/// The scheduler of those clients that delay jobs: GatewayZen delays none and runs none. It goes on in the quiet.
pub(super) async fn schedule(world: Arc<World>, stop: CancellationToken) {
    resque::schedule(queue(&world), stop).await;
}

/// Pushes so many a second until told to stop.
pub(super) async fn push(
    world: Arc<World>,
    mut random: fastrand::Rng,
    per_second: f64,
    stop: CancellationToken,
) {
    let queue = queue(&world);
    loop {
        let wait = Duration::from_secs_f64(random.f64() * 2.0 / per_second);
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        let deed = one(&queue, world.any_id(&mut random), &mut random);
        // Redis may be away for longer than anybody would wait.
        if let Ok(Ok(Some(name))) = tokio::time::timeout(Duration::from_secs(3), deed).await {
            world.tally.count(name);
        }
    }
}

async fn one(
    queue: &resque::Queue,
    id: i64,
    random: &mut fastrand::Rng,
) -> Result<Option<&'static str>, resque::Error> {
    let step = Step::ALL[random.usize(..Step::ALL.len())];
    let foreign = JobArgs {
        id,
        generation: None,
        traceparent: None,
    };
    Ok(Some(match random.u32(..10) {
        0..4 => {
            queue.push(step.queue(), &foreign.payload(step)).await?;
            "foreign job"
        }
        4 => {
            let guessed = JobArgs {
                generation: Some(random.i64(1..60)),
                ..foreign
            };
            queue.push(step.queue(), &guessed.payload(step)).await?;
            "foreign job of a guessed generation"
        }
        5 => {
            // Whatever is queued is queued once more.
            let waiting = queue.peek(step.queue(), 0, 20).await?;
            if waiting.is_empty() {
                return Ok(None);
            }
            queue
                .push(step.queue(), &waiting[random.usize(..waiting.len())])
                .await?;
            "duplicate of a queued job"
        }
        6 => {
            let later = Duration::from_millis(random.u64(..5000));
            queue.push_in(step.queue(), &foreign.payload(step), later).await?;
            "foreign job for later"
        }
        7 => {
            queue.push(step.queue(), &garbage(random)).await?;
            "garbage in a queue"
        }
        _ => {
            let failed = queue.failed_count().await?;
            if failed == 0 {
                return Ok(None);
            }
            // The newest entries are those of rows that are still parked.
            let back = random.usize(..failed.min(30));
            queue.requeue_failed(failed - 1 - back).await?;
            "failed entry queued again"
        }
    }))
}

fn garbage(random: &mut fastrand::Rng) -> Vec<u8> {
    let text = match random.u32(..8) {
        0 => "not JSON".to_owned(),
        1 => json!({"class": "NoSuchClass", "args": [1]}).to_string(),
        2 => json!({"class": "startGatewayd", "args": [-1]}).to_string(),
        3 => json!({"class": "startGatewayd", "args": ["'; DROP TABLE gatewayds; --"]}).to_string(),
        4 => json!({"class": "startGatewayd"}).to_string(),
        5 => json!({"class": "startGatewayd", "args": [1, 2, 3]}).to_string(),
        6 => json!({"class": "startGatewayd", "args": [9_007_199_254_740_993_i64]}).to_string(),
        _ => return (0..200).map(|_| random.u8(..)).collect(),
    };
    text.into_bytes()
}

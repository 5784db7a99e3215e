//! RequestLimitExceeded, as EC2 comes to it: a bucket of tokens for each kind of call, refilled all the time.

use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;

use super::lock;

/// One bucket.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// How many tokens it holds at most, and at the beginning.
    pub capacity: f64,
    /// How many come back in a second.
    pub refill: f64,
}

impl Bucket {
    /// A bucket of this capacity and refill a second.
    #[must_use]
    pub const fn new(capacity: f64, refill: f64) -> Self {
        Self { capacity, refill }
    }
}

/// An account's limits. The defaults are EC2's own for an account that never asked for more.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Calls that only look.
    pub describe: Bucket,
    /// Calls that change something, RunInstances among them.
    pub mutate: Bucket,
    /// Instances that RunInstances launches: it is limited by their number as well.
    pub instances: Bucket,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            describe: Bucket::new(100.0, 20.0),
            mutate: Bucket::new(50.0, 5.0),
            instances: Bucket::new(1000.0, 2.0),
        }
    }
}

/// The buckets as full as they are.
pub(super) struct Buckets(Mutex<[Level; 3]>);

struct Level {
    bucket: Bucket,
    tokens: f64,
    at: Instant,
}

impl Level {
    fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            tokens: bucket.capacity,
            at: Instant::now(),
        }
    }

    fn refill(&mut self, now: Instant) {
        let come = now.duration_since(self.at).as_secs_f64() * self.bucket.refill;
        self.tokens = (self.tokens + come).min(self.bucket.capacity);
        self.at = now;
    }
}

impl Buckets {
    pub(super) fn new(throttle: Throttle) -> Self {
        Self(Mutex::new([
            Level::new(throttle.describe),
            Level::new(throttle.mutate),
            Level::new(throttle.instances),
        ]))
    }

    /// Whether the account may make this call now; it is paid for then. A refused call costs nothing.
    pub(super) fn admit(&self, action: &str) -> bool {
        let cost = match action {
            "RunInstances" => [0.0, 1.0, 1.0],
            action if action.starts_with("Describe") => [1.0, 0.0, 0.0],
            _ => [0.0, 1.0, 0.0],
        };
        let (mut levels, now) = (lock(&self.0), Instant::now());
        for level in levels.iter_mut() {
            level.refill(now);
        }
        let enough = levels.iter().zip(cost).all(|(level, cost)| level.tokens >= cost);
        if enough {
            for (level, cost) in levels.iter_mut().zip(cost) {
                level.tokens -= cost;
            }
        }
        enough
    }
}

//! RequestLimitExceeded, as EC2 comes to it: a bucket of tokens for each API, refilled all the time.

use std::collections::BTreeMap;
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

/// An account's limits: EC2 counts the calls of each API by themselves. The defaults are its own for an account that never asked for
/// more, without two that are not simulated: the smaller bucket of a DescribeInstances that names no filter and no page, and that of the
/// instances which TerminateInstances ends.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Throttle {
    /// Calls that only look: each API has such a bucket.
    pub describe: Bucket,
    /// Calls of RunInstances.
    pub run: Bucket,
    /// Calls of TerminateInstances.
    pub terminate: Bucket,
    /// Instances that RunInstances launches: it is limited by their number as well.
    pub instances: Bucket,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            describe: Bucket::new(100.0, 20.0),
            run: Bucket::new(5.0, 2.0),
            terminate: Bucket::new(100.0, 5.0),
            instances: Bucket::new(1000.0, 2.0),
        }
    }
}

/// The buckets as full as they are.
pub(super) struct Buckets {
    throttle: Throttle,
    /// By the API whose calls they count; launched instances have a name of their own.
    levels: Mutex<BTreeMap<String, Level>>,
}

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
        Self {
            throttle,
            levels: Mutex::default(),
        }
    }

    /// Whether the account may make this call now; it is paid for then. A refused call costs nothing.
    pub(super) fn admit(&self, action: &str) -> bool {
        let limits = &self.throttle;
        let draws = match action {
            "RunInstances" => vec![(action, limits.run), ("instances", limits.instances)],
            "TerminateInstances" => vec![(action, limits.terminate)],
            _ => vec![(action, limits.describe)],
        };
        let (mut levels, now) = (lock(&self.levels), Instant::now());
        for (name, bucket) in &draws {
            let level = levels.entry((*name).to_owned());
            level.or_insert_with(|| Level::new(*bucket)).refill(now);
        }
        let enough = draws.iter().all(|(name, _)| levels[*name].tokens >= 1.0);
        if enough {
            for (name, _) in draws {
                if let Some(level) = levels.get_mut(name) {
                    level.tokens -= 1.0;
                }
            }
        }
        enough
    }
}

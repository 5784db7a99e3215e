use std::time::Duration;

use crate::{Error, Rescues};

/// Times are added to clocks, which end some day.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

/// How many entries `failed` may have, unless a worker is told otherwise.
pub(crate) const FAILED_LIMIT: usize = 10_000;

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The queues, the most urgent first; `*` is all that are not named.
    pub queues: Vec<String>,
    /// Whether another queue is the first at each look. Without it, as in Ruby, a queue gets a slot only while all before it
    /// are empty: one that never is starves those behind it.
    pub take_turns: bool,
    /// How many jobs run at once.
    pub slots: usize,
    /// How long a job stays ours without a sign of life. At least three heartbeats.
    pub lease: Duration,
    /// How often leases and registration are renewed. At most 30 s.
    pub heartbeat: Duration,
    /// How many times a job is taken up again whose worker died with it; after that it has failed.
    pub max_rescues: u32,
    /// How many entries `failed` may have; the oldest go first.
    pub failed_limit: usize,
    /// How long a job may run.
    pub job_timeout: Duration,
    /// How long jobs in hand may go on after the order to stop, before they are given back.
    pub drain: Duration,
    /// How often `*` queues, and a pause of all workers, are looked at.
    pub poll: Duration,
    /// Where this worker counts the jobs of dead workers that it takes up.
    pub rescues: Rescues,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            queues: Vec::new(),
            take_turns: false,
            slots: 10,
            lease: Duration::from_secs(45),
            heartbeat: Duration::from_secs(10),
            max_rescues: 3,
            failed_limit: FAILED_LIMIT,
            job_timeout: Duration::from_secs(600),
            drain: Duration::from_secs(25),
            poll: Duration::from_secs(2),
            rescues: Rescues::default(),
        }
    }
}

impl WorkerConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Config(text));
        if self.queues.is_empty() {
            return refuse("a worker needs at least one queue; name it, or \"*\" for all".to_owned());
        }
        // A comma divides the names in a worker's id, and an empty id part stops Ruby's workers.
        if let Some(name) = self.queues.iter().find(|name| {
            name.is_empty() || name.contains(|c: char| c == ',' || c.is_whitespace() || c.is_control())
        }) {
            return refuse(format!(
                "{name:?} is no queue name: it is empty or has a comma or a blank in it"
            ));
        }
        if self.slots == 0 || self.slots > 100_000 {
            return refuse(format!("slots is {}; it must be from 1 to 100000", self.slots));
        }
        if self.heartbeat.is_zero() || self.heartbeat > Duration::from_secs(30) {
            return refuse(format!(
                "heartbeat is {:?}; it must be above 0 and at most 30 s",
                self.heartbeat
            ));
        }
        if self.lease < self.heartbeat * 3 {
            return refuse(format!(
                "lease is {:?}; it must be at least three heartbeats of {:?}, or a slow moment loses it",
                self.lease, self.heartbeat
            ));
        }
        if self.failed_limit == 0 || self.job_timeout.is_zero() || self.poll.is_zero() {
            return refuse("failed_limit, job_timeout and poll must be above 0".to_owned());
        }
        let longest = self.job_timeout.max(self.poll).max(self.drain).max(self.lease);
        if longest > YEAR {
            return refuse(format!(
                "lease, job_timeout, drain or poll is {longest:?}; none may be more than a year"
            ));
        }
        Ok(())
    }
}

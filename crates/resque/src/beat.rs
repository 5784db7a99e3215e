//! What a worker does for as long as it lives, whatever its slots do: it keeps itself registered, keeps
//! the leases of its jobs, and takes up the jobs of those that died.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{cmd, pipe};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use crate::{
    Error, Queue, WorkerConfig,
    backoff::Backoff,
    clock,
    connection::Request,
    id::{Ids, is_ours},
    scripts::{self, GIVE_BACK, REAP, RENEW},
};

/// How long a worker of this crate may be silent before its registration is removed. Longer than any
/// heartbeat that [`WorkerConfig`] allows, shorter than Ruby's five minutes.
const PRUNE_AFTER: Duration = Duration::from_secs(120);
/// How often each process looks for such.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How many slots or jobs go into one command.
const CHUNK: usize = 500;

/// How many jobs each slot has ended, and how many of these failed.
pub(crate) struct Counts(Vec<(AtomicU64, AtomicU64)>);

impl Counts {
    pub(crate) fn new(slots: usize) -> Self {
        Self((0..slots).map(|_| Default::default()).collect())
    }

    pub(crate) fn add(&self, slot: usize, failed: bool) {
        if let Some((ended, failures)) = self.0.get(slot) {
            ended.fetch_add(1, Ordering::Relaxed);
            failures.fetch_add(u64::from(failed), Ordering::Relaxed);
        }
    }

    fn of(&self, slot: usize) -> (u64, u64) {
        self.0.get(slot).map_or((0, 0), |(ended, failures)| {
            (ended.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
        })
    }
}

pub(crate) struct Beat {
    queue: Queue,
    config: Arc<WorkerConfig>,
    ids: Arc<Ids>,
    counts: Arc<Counts>,
    /// The counts that Redis was told.
    told: Vec<(u64, u64)>,
    started: String,
    reap_from: Instant,
    prune_from: Instant,
}

impl Beat {
    pub(crate) fn new(queue: Queue, config: Arc<WorkerConfig>, ids: Arc<Ids>, counts: Arc<Counts>) -> Self {
        Self {
            told: vec![(0, 0); config.slots],
            queue,
            config,
            ids,
            counts,
            started: clock::started(),
            reap_from: Instant::now(),
            prune_from: Instant::now(),
        }
    }

    /// Beats until it is dropped.
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new();
        let mut last_failure = None;
        loop {
            match self.once().await {
                Ok(()) => {
                    last_failure = None;
                    backoff.reset();
                    // A little uneven, so that many processes do not all come at once.
                    sleep(self.config.heartbeat.mul_f32(0.9 + 0.1 * fastrand::f32())).await;
                }
                Err(failure) => {
                    // After an outage the leases of all may have run out, and their holders be alive:
                    // they get time to renew them before anybody takes their jobs away.
                    self.reap_from = Instant::now() + self.config.lease;
                    if !failure.is_outage() && last_failure.as_ref() != Some(&failure) {
                        error!("the heartbeat of this worker failed: {failure}; trying again");
                        last_failure = Some(failure);
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn once(&mut self) -> Result<(), Error> {
        self.renew().await?;
        self.register().await?;
        if Instant::now() >= self.reap_from {
            self.reap().await?;
        }
        if Instant::now() >= self.prune_from {
            self.prune().await?;
            self.prune_from = Instant::now() + PRUNE_EVERY;
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), Error> {
        let mut call = scripts::call(&RENEW, &self.queue.prefix);
        call.arg(self.ids.process()).arg(millis(self.config.lease));
        let _: usize = self.queue.redis.call(Request::Script(&call)).await?;
        Ok(())
    }

    /// Registers every slot again and again, so that neither a FLUSHALL nor another client's clean-up
    /// makes a living worker invisible for good; and tells how many jobs each has ended.
    async fn register(&mut self) -> Result<(), Error> {
        let now = self.queue.server_time().await?;
        let beat = clock::heartbeat(i64::try_from(now.as_secs()).unwrap_or_default());
        for (number, ids) in self.ids.all().chunks(CHUNK).enumerate() {
            let mut pipeline = pipe();
            let fields: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), beat.as_str())).collect();
            pipeline.atomic();
            // The heartbeat first: a worker without one looks dead to Ruby.
            pipeline
                .hset_multiple(self.queue.key("workers:heartbeat"), &fields)
                .ignore();
            pipeline.sadd(self.queue.key("workers"), ids);
            let (new,): (usize,) = self.queue.redis.call(Request::Pipeline(&pipeline)).await?;
            let mut values = Vec::new();
            for (slot, id) in (number * CHUNK..).zip(ids) {
                if new > 0 {
                    values.push((format!("worker:{id}:started"), self.started.clone()));
                }
                let (ended, failures) = self.counts.of(slot);
                let told = self.told.get_mut(slot);
                if ended > 0 && (new > 0 || told.as_deref() != Some(&(ended, failures))) {
                    values.push((format!("stat:processed:{id}"), ended.to_string()));
                    values.push((format!("stat:failed:{id}"), failures.to_string()));
                }
                if let Some(told) = told {
                    *told = (ended, failures);
                }
            }
            if !values.is_empty() {
                let mut command = cmd("MSET");
                for (key, value) in values {
                    command.arg(self.queue.key(&key)).arg(value);
                }
                let () = self.queue.redis.call(Request::Command(&command)).await?;
            }
        }
        Ok(())
    }

    async fn reap(&self) -> Result<(), Error> {
        loop {
            let mut call = scripts::call(&REAP, &self.queue.prefix);
            call.arg(self.config.max_rescues)
                .arg(self.config.failed_limit)
                .arg(clock::failed_at())
                .arg(100);
            type Reaped = Vec<(String, Vec<u8>, u32, u8)>;
            let reaped: Reaped = self.queue.redis.call(Request::Script(&call)).await?;
            let last = reaped.len() < 100;
            for (id, queue, rescues, given_up) in reaped {
                let queue = String::from_utf8_lossy(&queue);
                self.config.rescues.add(given_up == 1);
                if given_up == 1 {
                    error!(%queue, worker = %id, "a job whose worker died {rescues} times was moved to the failed jobs");
                } else {
                    let max = self.config.max_rescues;
                    warn!(%queue, worker = %id, "a job whose worker died was put back to its queue: rescue {rescues} of {max}");
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Removes the registrations of workers of this crate that have fallen silent. Their jobs are the
    /// reaper's.
    async fn prune(&self) -> Result<(), Error> {
        let silent: Vec<String> = self
            .queue
            .workers()
            .await?
            .into_iter()
            .filter(|worker| worker.silent_for.is_some_and(|silent| silent > PRUNE_AFTER))
            .map(|worker| worker.id)
            .filter(|id| is_ours(id))
            .collect();
        if !silent.is_empty() {
            info!("removing {} registrations of workers that died", silent.len());
        }
        unregister(&self.queue, &silent).await
    }
}

/// Puts whatever a process holds back to the heads of its queues, and says how many jobs that were.
pub(crate) async fn give_back(queue: &Queue, process: &str) -> Result<usize, Error> {
    let mut returned = 0;
    loop {
        let mut call = scripts::call(&GIVE_BACK, &queue.prefix);
        call.arg(process).arg(CHUNK);
        let batch: usize = queue.redis.call(Request::Script(&call)).await?;
        returned += batch;
        if batch < CHUNK {
            return Ok(returned);
        }
    }
}

/// Removes the registrations of slots, as Ruby does when it stops.
pub(crate) async fn unregister(queue: &Queue, ids: &[String]) -> Result<(), Error> {
    for ids in ids.chunks(CHUNK) {
        let mut pipeline = pipe();
        pipeline.atomic();
        pipeline.srem(queue.key("workers"), ids).ignore();
        pipeline.hdel(queue.key("workers:heartbeat"), ids).ignore();
        for id in ids {
            let keys = ["worker:", "stat:processed:", "stat:failed:"].map(|k| queue.key(&format!("{k}{id}")));
            pipeline.del(&keys[..]).ignore();
            pipeline.del(queue.key(&format!("worker:{id}:started"))).ignore();
        }
        let () = queue.redis.call(Request::Pipeline(&pipeline)).await?;
    }
    Ok(())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

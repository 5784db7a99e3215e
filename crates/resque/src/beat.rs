//! What a worker does for as long as it lives, whatever its slots do: it keeps itself registered, keeps
//! the leases of its jobs, and takes up the jobs of those that died.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
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
    scripts::{self, REAP, RENEW},
};

/// How long a worker of this crate may be silent before its registration is removed. Longer than any
/// heartbeat that [`WorkerConfig`] allows, shorter than Ruby's five minutes.
const PRUNE_AFTER: Duration = Duration::from_secs(120);
/// How often each process looks for such.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How many slots or jobs go into one command.
const CHUNK: usize = 500;

/// The slots that have a job in hand.
#[derive(Clone, Default)]
pub(crate) struct Busy(Arc<Mutex<BTreeSet<usize>>>);

impl Busy {
    pub(crate) fn begin(&self, slot: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(slot);
    }

    pub(crate) fn end(&self, slot: usize) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&slot);
    }

    fn now(&self) -> Vec<usize> {
        let busy = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        busy.iter().copied().collect()
    }
}

pub(crate) struct Beat {
    pub(crate) queue: Queue,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) busy: Busy,
}

impl Beat {
    /// Beats until it is dropped.
    pub(crate) async fn run(self) {
        let started = clock::started();
        let mut backoff = Backoff::new();
        let mut reap_from = Instant::now();
        let mut prune_from = Instant::now();
        let mut last_failure = None;
        loop {
            match self.once(&started, reap_from, &mut prune_from).await {
                Ok(()) => {
                    last_failure = None;
                    backoff.reset();
                    // A little uneven, so that many processes do not all come at once.
                    sleep(self.config.heartbeat.mul_f32(0.9 + 0.1 * fastrand::f32())).await;
                }
                Err(failure) => {
                    // After an outage the leases of all may have run out, and their holders be alive:
                    // they get time to renew them before anybody takes their jobs away.
                    reap_from = Instant::now() + self.config.lease;
                    if !failure.is_outage() && last_failure.as_ref() != Some(&failure) {
                        error!("the heartbeat of this worker failed: {failure}; trying again");
                        last_failure = Some(failure);
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    async fn once(&self, started: &str, reap_from: Instant, prune_from: &mut Instant) -> Result<(), Error> {
        self.renew().await?;
        self.register(started).await?;
        if Instant::now() >= reap_from {
            self.reap().await?;
        }
        if Instant::now() >= *prune_from {
            self.prune().await?;
            *prune_from = Instant::now() + PRUNE_EVERY;
        }
        Ok(())
    }

    async fn renew(&self) -> Result<(), Error> {
        for slots in self.busy.now().chunks(CHUNK) {
            let mut call = scripts::call(&RENEW, &self.queue.prefix);
            call.arg(millis(self.config.lease));
            for slot in slots {
                call.arg(self.ids.of(*slot));
            }
            let _: usize = self.queue.redis.call(Request::Script(&call)).await?;
        }
        Ok(())
    }

    /// Registers every slot again and again, so that neither a FLUSHALL nor another client's clean-up
    /// makes a living worker invisible for good.
    async fn register(&self, started: &str) -> Result<(), Error> {
        let now = self.queue.server_time().await?;
        let beat = clock::heartbeat(i64::try_from(now.as_secs()).unwrap_or_default());
        for ids in self.ids.all().chunks(CHUNK) {
            let mut pipeline = pipe();
            let fields: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), beat.as_str())).collect();
            pipeline.atomic();
            // The heartbeat first: a worker without one looks dead to Ruby.
            pipeline
                .hset_multiple(self.queue.key("workers:heartbeat"), &fields)
                .ignore();
            pipeline.sadd(self.queue.key("workers"), ids);
            let (new,): (usize,) = self.queue.redis.call(Request::Pipeline(&pipeline)).await?;
            if new > 0 {
                let mut command = cmd("MSET");
                for id in ids {
                    command
                        .arg(self.queue.key(&format!("worker:{id}:started")))
                        .arg(started);
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

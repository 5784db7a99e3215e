use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{Id, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{error, info, warn};

use crate::{
    Error, Failure, Gate, Job, Queue, WorkerConfig,
    backoff::Backoff,
    beat::{Beat, Busy, millis, unregister},
    clock,
    connection::Request,
    id::Ids,
    scripts::{self, CLAIM},
    slot::{Claimed, Slots, give_back},
    wake::Wake,
};

/// Does jobs.
pub trait Handler: Send + Sync + 'static {
    /// Does one job. A job may come twice, or again after it was cut short, so doing it must be
    /// idempotent. Dropping the future (at a timeout, or the end of a drain) stops it where it waits.
    fn run(&self, job: Job) -> impl Future<Output = Result<(), Failure>> + Send;
}

impl<H: Handler> Handler for Arc<H> {
    fn run(&self, job: Job) -> impl Future<Output = Result<(), Failure>> + Send {
        H::run(self, job)
    }
}

/// The most jobs that one claim takes.
const CLAIM_LIMIT: usize = 256;
/// An idle worker looks into its queues this often even if nothing wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// Takes jobs and does them, until `shutdown` is cancelled and the jobs in hand have ended or were
/// given back.
///
/// Redis need not be there: the worker waits for it, and goes on after an outage. Jobs in hand go on
/// during one, and their ends are recorded after it.
///
/// # Errors
/// [`Error::Config`] at once, when the configuration cannot work. There are no others.
pub async fn work<H: Handler>(
    queue: Queue,
    config: WorkerConfig,
    handler: H,
    gate: Gate,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    config.check()?;
    let ids = Arc::new(Ids::new(&config));
    let config = Arc::new(config);
    let busy = Busy::default();
    let beat = Beat {
        queue: queue.clone(),
        config: config.clone(),
        ids: ids.clone(),
        busy: busy.clone(),
    };
    let beat = AbortOnDropHandle::new(tokio::spawn(beat.run()));
    let wake = Wake::new(&queue, &config.queues);
    let slots = Arc::new(Slots {
        queue,
        ids,
        handler: Arc::new(handler),
        give_up: CancellationToken::new(),
        config,
    });
    let mut worker = Worker {
        free: (0..slots.config.slots).collect(),
        slots,
        busy,
        tasks: JoinSet::new(),
        running: HashMap::new(),
        trouble: None,
    };
    info!(queues = ?worker.slots.config.queues, slots = worker.slots.config.slots, "taking jobs");
    worker.take_jobs(&wake, &gate, &shutdown).await;
    drop(wake);
    worker.drain().await;
    drop(beat);
    worker.sign_off().await;
    Ok(())
}

struct Worker<H> {
    slots: Arc<Slots<H>>,
    busy: Busy,
    free: BTreeSet<usize>,
    tasks: JoinSet<()>,
    running: HashMap<Id, usize>,
    /// The last trouble that was logged, so that one that lasts is logged once.
    trouble: Option<String>,
}

enum Claim {
    /// All queues are empty.
    Empty,
    /// There may be more.
    More,
    /// Somebody paused all workers.
    Paused,
}

impl<H: Handler> Worker<H> {
    async fn take_jobs(&mut self, wake: &Wake, gate: &Gate, shutdown: &CancellationToken) {
        let polls = self.slots.config.queues.iter().any(|name| name == "*");
        let poll = self.slots.config.poll;
        let mut backoff = Backoff::new();
        // After a failed claim its answer may have been lost on the way, and with it jobs.
        let mut recover = false;
        while !shutdown.is_cancelled() {
            self.release_ended();
            if self.free.is_empty() {
                tokio::select! {
                    () = self.one_ended() => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
            if gate.paused_until().is_some() {
                tokio::select! {
                    () = gate.opened() => {}
                    () = shutdown.cancelled() => {}
                }
                continue;
            }
            let claim = self.claim(recover).await;
            recover = claim.is_err();
            let pause = match claim {
                Ok(Claim::More) => {
                    backoff.reset();
                    continue;
                }
                Ok(Claim::Paused) => {
                    sleep_or(poll, shutdown).await;
                    continue;
                }
                Ok(Claim::Empty) => {
                    backoff.reset();
                    if polls { poll } else { IDLE }
                }
                Err(failure) => {
                    if !failure.is_outage() {
                        self.complain(format!("jobs cannot be taken: {failure}"));
                    }
                    tokio::select! {
                        () = backoff.wait() => {}
                        () = shutdown.cancelled() => {}
                    }
                    continue;
                }
            };
            wake.arm();
            tokio::select! {
                () = wake.woken() => {}
                () = sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Takes jobs for the free slots and starts them.
    async fn claim(&mut self, recover: bool) -> Result<Claim, Error> {
        let config = &self.slots.config;
        let free: Vec<usize> = self.free.iter().copied().take(CLAIM_LIMIT).collect();
        let mut call = scripts::call(&CLAIM, &self.slots.queue.prefix);
        call.arg(millis(config.lease))
            .arg(clock::run_at())
            .arg(u8::from(recover))
            .arg(config.queues.len())
            .arg(&config.queues);
        for slot in &free {
            call.arg(self.slots.ids.of(*slot));
        }
        type Answer = (u8, u8, String, Vec<(usize, Vec<u8>, Vec<u8>, String, u32)>);
        let (paused, more, trouble, jobs): Answer =
            self.slots.queue.redis.call(Request::Script(&call)).await?;
        if trouble.is_empty() {
            self.trouble = None;
        } else {
            self.complain(format!("a queue cannot be read and is left out: {trouble}"));
        }
        let full = jobs.len() == free.len();
        for (number, queue, raw, sha, rescues) in jobs {
            let Some(&slot) = free.get(number.wrapping_sub(1)) else {
                continue;
            };
            self.start(Claimed {
                slot,
                queue: String::from_utf8_lossy(&queue).into_owned(),
                raw,
                sha,
                rescues,
            });
        }
        Ok(match (paused, full || more == 1) {
            (1, _) => Claim::Paused,
            (_, true) => Claim::More,
            (_, false) => Claim::Empty,
        })
    }

    fn start(&mut self, claimed: Claimed) {
        let slot = claimed.slot;
        self.free.remove(&slot);
        self.busy.begin(slot);
        let task = self.tasks.spawn(self.slots.clone().run(claimed));
        self.running.insert(task.id(), slot);
    }

    async fn one_ended(&mut self) {
        if let Some(ended) = self.tasks.join_next_with_id().await {
            self.release(ended.map(|(id, ())| id));
        }
    }

    fn release_ended(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.release(ended.map(|(id, ())| id));
        }
    }

    fn release(&mut self, ended: Result<Id, tokio::task::JoinError>) {
        let id = ended.unwrap_or_else(|end| {
            error!("a slot ended unexpectedly: {end}; its job is taken up again");
            end.id()
        });
        if let Some(slot) = self.running.remove(&id) {
            self.busy.end(slot);
            self.free.insert(slot);
        }
    }

    fn complain(&mut self, text: String) {
        if self.trouble.as_ref() != Some(&text) {
            error!("{text}; trying again");
            self.trouble = Some(text);
        }
    }

    /// Lets the jobs in hand come to their end for as long as the drain lasts, and then gives them back.
    async fn drain(&mut self) {
        let limit = self.slots.config.drain;
        self.release_ended();
        // What a claim may have taken whose answer was lost.
        let free: Vec<usize> = self.free.iter().copied().collect();
        self.give_back(&free).await;
        if self.tasks.is_empty() {
            return;
        }
        info!(
            "stopping: {} jobs in hand have up to {limit:?} to end",
            self.tasks.len()
        );
        if timeout(limit, self.all_ended()).await.is_ok() {
            return;
        }
        warn!(
            "{} jobs did not end within {limit:?} and are given back to their queues",
            self.tasks.len()
        );
        self.slots.give_up.cancel();
        if timeout(Duration::from_secs(5), self.all_ended()).await.is_err() {
            self.tasks.shutdown().await;
        }
    }

    async fn all_ended(&mut self) {
        while !self.tasks.is_empty() {
            self.one_ended().await;
        }
    }

    /// Gives back what is left and removes the registration. Without Redis neither can be done: leases
    /// and silence then tell the other workers.
    async fn sign_off(&self) {
        let all: Vec<usize> = (0..self.slots.config.slots).collect();
        self.give_back(&all).await;
        let ids = self.slots.ids.all();
        let left = timeout(Duration::from_secs(5), unregister(&self.slots.queue, ids)).await;
        if !matches!(left, Ok(Ok(()))) {
            warn!("stopped without Redis: the registration of this worker goes when its silence is noticed");
        }
    }

    async fn give_back(&self, slots: &[usize]) {
        let ids: Vec<&str> = slots.iter().map(|slot| self.slots.ids.of(*slot)).collect();
        let given = timeout(Duration::from_secs(5), give_back(&self.slots.queue, &ids)).await;
        if let Ok(Ok(jobs @ 1..)) = given {
            info!("{jobs} jobs were given back to their queues");
        }
    }
}

async fn sleep_or(pause: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = sleep(pause) => {}
        () = shutdown.cancelled() => {}
    }
}

use std::{future::Future, sync::Arc};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::info;

use crate::{
    Error, Failure, Gate, Job, Queue, WorkerConfig,
    beat::{Beat, Counts},
    deliver::Delivery,
    id::Ids,
    run::Report,
    slots::Slots,
    step,
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

/// Takes jobs and does them, until `shutdown` is cancelled and the jobs in hand have ended or were
/// given back.
///
/// Redis need not be there: the worker waits for it, and goes on after an outage. Jobs in hand go on
/// during one, and their ends are recorded after it.
///
/// Keys: `queue:NAME`, `queues`, `workers`, `worker:ID`, `worker:ID:started`, `workers:heartbeat`, `stat:…`,
/// `failed`, `pause-all-workers`, and this crate's own `inflight:PROCESS`, `leases`, `rescues`, `unique` and
/// `unique:NAME:SHA1`.
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
    let counts = Arc::new(Counts::new(config.slots));
    let config = Arc::new(config);
    let beat = Beat::new(queue.clone(), config.clone(), ids.clone(), counts.clone());
    let beat = AbortOnDropHandle::new(tokio::spawn(beat.run()));
    let wake = Wake::new(&queue, &config.queues);
    let (reporter, reports) = mpsc::unbounded_channel();
    let mut worker = Worker {
        slots: Slots::new(config.slots, config.job_timeout, ids.clone()),
        queue,
        config,
        ids,
        counts,
        handler: Arc::new(handler),
        reporter,
        reports,
        delivery: Delivery::new(),
        seek_at: Some(Instant::now()),
        empty: false,
    };
    info!(queues = ?worker.config.queues, slots = worker.config.slots, "taking jobs");
    worker.take_jobs(&wake, &gate, &shutdown).await;
    drop(wake);
    worker.drain().await;
    drop(beat);
    worker.sign_off().await;
    Ok(())
}

/// A worker. Its loop is one task that alone talks to Redis about jobs, one round trip at a time, so that
/// whatever it tells arrives in order; each job is a task of its own.
pub(crate) struct Worker<H> {
    pub(crate) queue: Queue,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) handler: Arc<H>,
    pub(crate) slots: Slots,
    pub(crate) reporter: mpsc::UnboundedSender<Report>,
    pub(crate) reports: mpsc::UnboundedReceiver<Report>,
    pub(crate) delivery: Delivery,
    /// When to look into the queues even though no job has ended. `None` while all slots are taken.
    pub(crate) seek_at: Option<Instant>,
    /// Whether all queues were empty at the last look.
    pub(crate) empty: bool,
}

impl<H: Handler> Worker<H> {
    async fn take_jobs(&mut self, wake: &Wake, gate: &Gate, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            self.gather().await;
            let now = Instant::now();
            if now >= self.slots.look_at {
                self.slots.look(now);
            }
            let open = gate.paused_until().is_none();
            let seek = open && self.seek_at.is_some_and(|at| now >= at);
            let recover = now >= self.delivery.recover_at();
            if seek || recover || self.anything_to_tell() {
                if !self.step(open).await {
                    tokio::select! {
                        () = self.wait_to_repeat() => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                continue;
            }
            // Not where jobs are waiting, and somebody paused all workers: it would return at once.
            let listen = open && self.empty && self.seek_at.is_some();
            if listen {
                wake.arm();
            }
            let mut next = self.slots.look_at.min(self.delivery.recover_at());
            if open {
                next = self.seek_at.map_or(next, |at| at.min(next));
            }
            tokio::select! {
                Some(report) = self.reports.recv() => self.slots.report(report),
                () = wake.woken(), if listen => self.seek_at = Some(Instant::now()),
                () = gate.opened(), if !open => self.seek_at = self.seek_at.map(|_| Instant::now()),
                () = sleep_until(next) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    pub(crate) fn anything_to_tell(&self) -> bool {
        !self.slots.ended.is_empty() || !self.slots.to_show.is_empty()
    }

    /// Takes up the reports of jobs that ended. Where there are some, others are about to follow: they get the
    /// chance to, since one step tells of many.
    pub(crate) async fn gather(&mut self) {
        loop {
            let before = self.slots.ended.len();
            while let Ok(report) = self.reports.try_recv() {
                self.slots.report(report);
            }
            let after = self.slots.ended.len();
            if after == before || after >= step::LIMIT || self.slots.running == 0 {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

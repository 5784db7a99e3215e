//! The dispatcher's loop: from due rows in Postgres to jobs in Redis.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_bootstrap::telemetry::{
    self,
    metrics::{self, Counter, KeyValue},
};
use gatewayzen_core::repository::{DueJob, DueListener, Halt, RepositoryError};
use gatewayzen_core::{JobArgs, Repository, State, crash};
use tokio_util::sync::CancellationToken;

/// Moves jobs; any number of these may run at once.
pub(crate) struct Dispatcher {
    pub(crate) repository: Repository,
    pub(crate) queue: resque::Queue,
    pub(crate) settings: Settings,
    pub(crate) owner: String,
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    #[error(transparent)]
    Postgres(#[from] RepositoryError),
    #[error(transparent)]
    Redis(#[from] resque::Error),
    #[error("Redis did not take the jobs within {} s", PUSH_LIMIT.as_secs())]
    RedisSlow,
}

/// A push that takes longer than this means that Redis is gone: the rows are looked at again later.
const PUSH_LIMIT: Duration = Duration::from_secs(5);

impl Dispatcher {
    /// One round: everything that is due now. Returns how many jobs were pushed.
    ///
    /// Rows are claimed and the claim committed before their jobs are pushed. Guards against the crash, or the
    /// loss of Redis, between the two: the claim itself says when to look again.
    pub(crate) async fn round(&self) -> Result<usize, RoundError> {
        let mut pushed = 0;
        loop {
            let claim = self
                .repository
                .claim_due(self.settings.dispatcher.batch, self.settings.worker.look_again);
            let due = crash::around("claim_due", claim).await?;
            if due.is_empty() {
                return Ok(pushed);
            }
            pushed += crash::around("push", self.push(&due)).await?;
            if due.len() < self.settings.dispatcher.batch as usize {
                return Ok(pushed);
            }
        }
    }

    /// Parks rows that are past their deadline and in no worker's hand, and gives each its entry in `failed`, as a worker
    /// does: so that the retry of any Resque tool reaches them too.
    async fn park_overdue(&self) -> Result<(), RoundError> {
        let deadlines = self.settings.deadlines.all();
        let overdue = self.repository.park_overdue(&deadlines, &self.owner);
        let parked = crash::around("park_overdue", overdue).await?;
        let mut failed = Vec::new();
        for row in parked {
            let (id, state, fault) = (row.id, row.state, row.fault);
            tracing::error!(gatewayd.id = id, gatewayd.state = %state, fault, "row parked: past its deadline");
            let failure = resque::Failure::new("Overdue", fault);
            failed.extend(job(state, id, row.generation, None).map(|job| (job, failure)));
        }
        // Without Redis only this way of three to retry is lost.
        let pushed = tokio::time::timeout(PUSH_LIMIT, self.queue.push_failed(&failed, &self.owner));
        match crash::around("push_failed", pushed).await {
            Ok(pushed) => Ok(pushed?),
            Err(_) => Err(RoundError::RedisSlow),
        }
    }

    /// Halts the fleet when its fault budget is spent; the halt that is in force, if one is.
    async fn check_fault_budget(&self) -> Result<Option<Halt>, RoundError> {
        let budget = &self.settings.fault_budget;
        let check =
            self.repository
                .check_fault_budget(budget.share, budget.least, budget.window, &self.owner);
        Ok(crash::around("check_fault_budget", check).await?)
    }

    async fn push(&self, due: &[DueJob]) -> Result<usize, RoundError> {
        let due: Vec<&DueJob> = due.iter().filter(|row| row.state.is_working()).collect();
        let jobs: Vec<resque::Push> = due
            .iter()
            .filter_map(|row| job(row.state, row.id, row.generation, row.traceparent.clone()))
            .collect();
        if jobs.is_empty() {
            return Ok(0);
        }
        // A marker that outlives a few looks, so that looking again never grows a backlog.
        let lifetime = self.settings.worker.look_again * 3;
        let pushed =
            match tokio::time::timeout(PUSH_LIMIT, self.queue.push_unique_many(&jobs, lifetime)).await {
                Ok(pushed) => pushed?,
                Err(_) => return Err(RoundError::RedisSlow),
            };
        let mut new = 0;
        for ((row, job), pushed) in due.iter().zip(&jobs).zip(pushed) {
            if pushed {
                tell(row, &job.queue);
                new += 1;
            }
        }
        Ok(new)
    }

    /// Rounds until told to stop, each as soon as something is due.
    pub(crate) async fn run(&self, health: &gatewayzen_bootstrap::Health, shutdown: &CancellationToken) {
        let mut listener: Option<DueListener> = None;
        let mut down = false;
        let mut well_since = None;
        let mut budget_checked: Option<Instant> = None;
        let mut halted = false;
        while !shutdown.is_cancelled() {
            if listener.is_none() {
                listener = self.repository.listen_due().await.ok();
            }
            // Guards against the outage of Redis or of all dispatchers that outlasted a deadline: the rows that it
            // held up get their jobs first, and the workers time to take them.
            let parks = well_since
                .is_some_and(|since: Instant| since.elapsed() > self.settings.worker.look_again * 2);
            let check = budget_checked.is_none_or(|at| at.elapsed() >= self.settings.dispatcher.period);
            let round = async {
                // First: what follows must not act on a fleet whose budget is spent.
                if check {
                    let halt = self.check_fault_budget().await?;
                    say(halt.as_ref(), &mut halted);
                    budget_checked = Some(Instant::now());
                }
                let pushed = self.round().await?;
                if parks {
                    self.park_overdue().await?;
                }
                Ok::<_, RoundError>(pushed)
            };
            match crash::within("dispatcher", round).await {
                Ok(pushed) => {
                    well_since.get_or_insert_with(Instant::now);
                    if down {
                        tracing::info!("dispatching again");
                        down = false;
                    }
                    health.set_ready("dispatch");
                    if pushed > 0 {
                        tracing::debug!(pushed, "jobs pushed");
                    }
                }
                Err(error) => {
                    well_since = None;
                    // One line for an outage, not one for a try.
                    if !down {
                        tracing::warn!(%error, "nothing dispatched; trying again every period");
                        down = true;
                    }
                    health.set_not_ready("dispatch", error.to_string());
                }
            }
            let heard = tokio::select! {
                heard = self.sleep(listener.as_mut()) => heard,
                () = shutdown.cancelled() => return,
            };
            if !heard {
                listener = None;
            }
        }
    }

    /// Until the next row is due, a NOTIFY, or the period, whichever is first. False: the listening connection
    /// is broken and a new one is needed.
    async fn sleep(&self, listener: Option<&mut DueListener>) -> bool {
        let period = self.settings.dispatcher.period;
        let next = match self.repository.until_next_due().await {
            Ok(next) => next.map_or(period, |next| next.min(period)),
            Err(_) => period,
        };
        // A row that is due but could not be claimed (another dispatcher has it) must not make a busy loop.
        let next = next.max(Duration::from_millis(5));
        match listener {
            Some(listener) => match tokio::time::timeout(next, listener.notified()).await {
                // What was said while the connection was down is lost; the period finds it.
                Ok(false) => {
                    tokio::time::sleep(next).await;
                    false
                }
                Ok(true) | Err(_) => true,
            },
            None => {
                tokio::time::sleep(next).await;
                true
            }
        }
    }
}

/// One line, one point in the walk's trace and one count for a job that was pushed. Of those that were queued already, and of
/// rounds, there is none: they would be most of all lines.
fn tell(row: &DueJob, queue: &str) {
    static PUSHED: LazyLock<Counter<u64>> = LazyLock::new(|| {
        metrics::counter(
            "gatewayzen.jobs.pushed",
            "Jobs pushed to a queue by this process; one that was queued already does not count.",
        )
    });
    PUSHED.add(1, &[KeyValue::new("queue", queue.to_owned())]);
    let span = telemetry::send_span(queue, row.id);
    if let Some(traceparent) = &row.traceparent {
        telemetry::set_parent(&span, traceparent);
    }
    span.in_scope(|| tracing::info!(gatewayd.state = %row.state, generation = row.generation, "job pushed"));
}

/// The job of a row; none in a state that has no step.
fn job(state: State, id: i64, generation: i64, traceparent: Option<String>) -> Option<resque::Push> {
    let step = state.step()?;
    let args = JobArgs {
        id,
        generation: Some(generation),
        traceparent,
    };
    Some(resque::Push {
        queue: step.queue().to_owned(),
        payload: args.payload(step),
    })
}

/// Logs a halt of the fleet once, and its end.
fn say(halt: Option<&Halt>, halted: &mut bool) {
    match halt {
        Some(halt) if !*halted => tracing::error!(
            why = halt.why,
            by = halt.halted_by,
            "THE FLEET IS HALTED: no step begins but those of stop and terminate, until an operator has mended the cause and \
             runs `gatewayzen resume --fleet --why …`"
        ),
        None if *halted => tracing::info!("the fleet goes on: its halt was ended"),
        _ => {}
    }
    *halted = halt.is_some();
}

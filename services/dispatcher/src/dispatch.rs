//! The dispatcher's loop: from due rows in Postgres to jobs in Redis.

use std::time::{Duration, Instant};

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_core::repository::{DueJob, DueListener, RepositoryError};
use gatewayzen_core::{JobArgs, Repository, crash};
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

    /// Parks rows that are past their deadline and in no worker's hand.
    async fn park_overdue(&self) -> Result<(), RoundError> {
        let deadlines = self.settings.deadlines.all();
        for (id, state, fault) in self.repository.park_overdue(&deadlines, &self.owner).await? {
            tracing::error!(id, state, fault, "row parked: past its deadline");
        }
        Ok(())
    }

    async fn push(&self, due: &[DueJob]) -> Result<usize, RoundError> {
        let jobs: Vec<resque::Push> = due
            .iter()
            .filter_map(|row| {
                let step = row.state.step()?;
                let args = JobArgs {
                    id: row.id,
                    generation: Some(row.generation),
                    traceparent: row.traceparent.clone(),
                };
                Some(resque::Push {
                    queue: step.queue().to_owned(),
                    payload: args.payload(step),
                })
            })
            .collect();
        if jobs.is_empty() {
            return Ok(0);
        }
        // A marker that outlives a few looks, so that looking again never grows a backlog.
        let lifetime = self.settings.worker.look_again * 3;
        match tokio::time::timeout(PUSH_LIMIT, self.queue.push_unique_many(&jobs, lifetime)).await {
            Ok(pushed) => Ok(pushed?),
            Err(_) => Err(RoundError::RedisSlow),
        }
    }

    /// Rounds until told to stop, each as soon as something is due.
    pub(crate) async fn run(&self, health: &gatewayzen_bootstrap::Health, shutdown: &CancellationToken) {
        let mut listener: Option<DueListener> = None;
        let mut down = false;
        let mut well_since = None;
        while !shutdown.is_cancelled() {
            if listener.is_none() {
                listener = self.repository.listen_due().await.ok();
            }
            // Guards against the outage of Redis or of all dispatchers that outlasted a deadline: the rows that it
            // held up get their jobs first, and the workers time to take them.
            let parks = well_since
                .is_some_and(|since: Instant| since.elapsed() > self.settings.worker.look_again * 2);
            let round = async {
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

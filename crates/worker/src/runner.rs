//! One job from Redis, one step of one row.

use std::sync::Arc;
use std::time::Duration;

use gatewayzen_bootstrap::telemetry::{self, metrics::KeyValue};
use gatewayzen_core::repository::{Finished, Lease, LeaseCheck, Outcome, RepositoryError, Verdict};
use gatewayzen_core::{Gatewayd, JobArgs, Next, Repository, Step, StepError, crash};
use resque::{Failure, Job};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::metrics::{InHand, METRICS, queue, verdict};
use crate::outcome::outcome;
use crate::pusher::Pusher;
use crate::renewal::{Ended, keep};
use crate::{RunnerSettings, StepContext, Steps, walk};

/// How long to wait before asking a Postgres again that does not answer.
const POSTGRES_AGAIN: Duration = Duration::from_secs(1);

/// As much is told of a class that this worker has not.
const LONGEST_CLASS: usize = 100;

/// Takes jobs for one worker's steps: the handler given to `resque::work`.
pub struct Runner<S> {
    steps: Arc<S>,
    settings: RunnerSettings,
    repository: Repository,
    pusher: Pusher,
    gate: resque::Gate,
    /// Set when the process was told to stop and its time to drain is over.
    stop: CancellationToken,
    /// Who holds the leases: host and process.
    owner: String,
}

impl<S: Steps> Runner<S> {
    /// A runner. `gate` is closed for a while when the surroundings fail; `shutdown` is cancelled when the
    /// process is told to stop.
    pub fn new(
        steps: S,
        settings: RunnerSettings,
        repository: Repository,
        queue: resque::Queue,
        gate: resque::Gate,
        shutdown: CancellationToken,
        owner: String,
    ) -> Self {
        let stop = CancellationToken::new();
        let (after, token, told) = (settings.worker.drain, stop.clone(), shutdown.clone());
        tokio::spawn(async move {
            told.cancelled().await;
            tokio::time::sleep(after).await;
            token.cancel();
        });
        let marker_lifetime = settings.marker_lifetime();
        Runner {
            steps: Arc::new(steps),
            settings,
            repository,
            pusher: Pusher {
                queue,
                marker_lifetime,
                shutdown,
                early: Default::default(),
            },
            gate,
            stop,
            owner,
        }
    }

    async fn one(&self, job: Job) -> Result<(), Failure> {
        let Some(step) = Step::from_queue(&job.class).filter(|step| self.steps.all().contains(step)) else {
            let can: Vec<&str> = self.steps.all().iter().map(|s| s.queue()).collect();
            // Anybody may have pushed it: a part of it is enough, and nothing that a terminal would obey.
            let class: String = job.class.escape_debug().take(LONGEST_CLASS).collect();
            return Err(Failure::new(
                "UnknownClass",
                format!("this worker has no class `{class}`; it takes {}", can.join(", ")),
            ));
        };
        let args = JobArgs::parse(&job.args).map_err(|bad| Failure::new("BadArguments", bad.to_string()))?;
        crash::within(format!("{}:{}", args.id, step.state()), self.of_row(step, args)).await
    }

    async fn of_row(&self, step: Step, args: JobArgs) -> Result<(), Failure> {
        let Some(said) = self.take(step, &args).await else {
            return Ok(());
        };
        METRICS
            .jobs
            .add(1, &[queue(step), KeyValue::new("verdict", verdict(&said))]);
        match said {
            Verdict::Taken(lease) => self.leased(step, lease, Instant::now()).await,
            Verdict::Busy(wait) | Verdict::NotYet(wait) => {
                tracing::debug!(gatewayd.id = args.id, %step, ?wait, "not now; the job comes back");
                self.pusher.push_once_after(wait, step.state(), args);
                Ok(())
            }
            Verdict::Exhausted(generation) => {
                let args = JobArgs {
                    generation: Some(generation),
                    ..args
                };
                Err(Failure {
                    payload: Some(args.payload(step)),
                    ..Failure::new("Exhausted", "the step was begun too often and never ended")
                })
            }
            Verdict::NoSuchRow | Verdict::Stale | Verdict::Held | Verdict::Halted | Verdict::Parked => {
                let (generation, verdict) = (args.generation, verdict(&said));
                tracing::info!(gatewayd.id = args.id, generation, %step, verdict, "nothing to do for this job");
                Ok(())
            }
        }
    }

    /// Takes the row's lease, however long Postgres is gone; `None` when the process must stop first.
    async fn take(&self, step: Step, args: &JobArgs) -> Option<Verdict> {
        let worker = &self.settings.worker;
        loop {
            let taken = self
                .repository
                .take_lease(
                    args.id,
                    step.state(),
                    args.generation,
                    &self.owner,
                    worker.lease,
                    worker.max_attempts,
                )
                .await;
            match taken {
                Ok(verdict) => return Some(verdict),
                Err(error) => self.postgres_failed(&error),
            }
            tokio::select! {
                () = tokio::time::sleep(POSTGRES_AGAIN) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn postgres_failed(&self, error: &RepositoryError) {
        tracing::warn!(%error, "no row taken; trying again");
        self.pause(POSTGRES_AGAIN);
    }

    /// Takes no job for a while.
    fn pause(&self, time: Duration) {
        let now = std::time::Instant::now();
        let (until, before) = (now + time, self.gate.paused_until().unwrap_or(now));
        self.gate.pause_until(until);
        // What several steps find out at once is one pause.
        let longer = until.saturating_duration_since(before.max(now));
        METRICS.paused.add(longer.as_secs_f64(), &[]);
    }

    async fn leased(&self, step: Step, lease: Lease, taken: Instant) -> Result<(), Failure> {
        let row = match self.repository.gatewayd(lease.id).await {
            // Between lease and read somebody may have written the state: then the step would act on a row
            // that wants something else.
            Ok(Some(row)) if row.generation == lease.generation && row.state == step.state() => row,
            Ok(_) => {
                if let Some(finished) = self.write(&lease, &Outcome::Release).await {
                    self.push_next(lease.id, &finished).await;
                }
                return Ok(());
            }
            // Guards against the loop of a worker that can lease a row but not read it, such as one that is older
            // than the schema: it backs off, and says why in the row.
            Err(error) => {
                tracing::error!(gatewayd.id = lease.id, %error, "the row cannot be read");
                let outcome = Outcome::BackOff {
                    after: self.settings.worker.backoff_first,
                    error: format!("the worker {} cannot read the row: {error}", self.owner),
                    unblock: "Run `gatewayzen doctor`: the schema and the worker's version may not fit."
                        .into(),
                };
                self.write(&lease, &outcome).await;
                return Ok(());
            }
        };
        let span = tracing::info_span!(
            "step",
            otel.name = %step,
            otel.kind = "consumer",
            otel.status_code = Empty,
            "error.type" = Empty,
            "messaging.system" = "resque",
            "messaging.operation.name" = "process",
            "messaging.operation.type" = "process",
            "messaging.destination.name" = step.queue(),
            gatewayd.id = row.id,
            gatewayd.name = %row.name,
            gatewayd.state = %row.state,
            %step,
            attempt = row.attempts,
            outcome = Empty,
        );
        if let Some(traceparent) = &row.traceparent {
            telemetry::set_parent(&span, traceparent);
        }
        let (failure, payload_row) = (
            self.step(step, &lease, row, taken).instrument(span).await,
            lease.id,
        );
        match failure {
            Some((fault, generation)) => {
                let args = JobArgs {
                    id: payload_row,
                    generation: Some(generation),
                    traceparent: None,
                };
                Err(Failure {
                    payload: Some(args.payload(step)),
                    ..Failure::new("StepFault", fault)
                })
            }
            None => Ok(()),
        }
    }

    /// Runs the step and writes its outcome. Returns the fault and the generation of a row that was parked.
    async fn step(&self, step: Step, lease: &Lease, row: Gatewayd, taken: Instant) -> Option<(String, i64)> {
        let context = StepContext {
            step,
            gatewayd: row,
            lease: lease.clone(),
            repository: self.repository.clone(),
        };
        let in_hand = InHand::new(step);
        let begun = Instant::now();
        let result = self.bounded(&context, taken).await;
        log(&result, begun.elapsed());
        if let Err(StepError::Environment(_)) = &result {
            self.pause(self.settings.worker.pause);
        }
        // The deadline counts to the step's end, not to its beginning.
        let mut row = context.gatewayd;
        row.read_at += begun.elapsed();
        let outcome = outcome(&self.settings, &row, result, fastrand::f64());
        let finished = self.write(lease, &outcome).await;
        drop(in_hand);
        let ended = match &finished {
            None => "unwritten",
            Some(finished) if finished.check == LeaseCheck::Lost => "lost",
            Some(_) => kind(&outcome),
        };
        Span::current().record("outcome", ended);
        let labels = [queue(step), KeyValue::new("result", ended)];
        METRICS.steps.record(begun.elapsed().as_secs_f64(), &labels);
        let finished = finished?;
        let traceparent = finished.traceparent.clone();
        if let (LeaseCheck::Held, Outcome::Advance { .. }, false, Some(traceparent)) = (
            finished.check,
            &outcome,
            finished.state.is_working(),
            &traceparent,
        ) {
            walk::export_root(&self.repository, lease.id, &row.name, traceparent, finished.state).await;
        }
        let next = JobArgs {
            id: lease.id,
            generation: Some(finished.generation),
            traceparent,
        };
        match (finished.check, &outcome) {
            (LeaseCheck::Lost, _) => None,
            (LeaseCheck::Held, Outcome::Park { fault, .. }) => Some((fault.clone(), finished.generation)),
            (
                LeaseCheck::Held,
                Outcome::Wait { after, .. }
                | Outcome::AwaitTurn { after, .. }
                | Outcome::BackOff { after, .. }
                | Outcome::Pause { after, .. },
            ) => {
                self.pusher.push_after(*after, finished.state, next);
                None
            }
            // Done, or given back, or overtaken by a write that waited for this lease: the row's next step now.
            (LeaseCheck::Held | LeaseCheck::Superseded, _) => {
                self.push_next(lease.id, &finished).await;
                None
            }
        }
    }

    /// Pushes the job of a row whose lease was given back, unless it is held.
    async fn push_next(&self, id: i64, finished: &Finished) {
        if finished.check != LeaseCheck::Lost && !finished.held {
            let traceparent = finished.traceparent.clone();
            let next = JobArgs {
                id,
                generation: Some(finished.generation),
                traceparent,
            };
            self.pusher.push(finished.state, &next).await;
        }
    }

    /// The step, for as long as the lease holds, the step's time lasts, and the process may go on.
    async fn bounded(&self, context: &StepContext, taken: Instant) -> Result<Next, StepError> {
        let worker = &self.settings.worker;
        tokio::select! {
            // Guards against the process that was frozen: when it wakes up, the lease is looked at before the step goes on.
            biased;
            ended = keep(&self.repository, &context.lease, worker.lease, taken) => {
                tracing::warn!(?ended, "step cut short");
                if ended == Ended::Lost {
                    METRICS.leases_lost.add(1, &[queue(context.step)]);
                }
                match ended {
                    Ended::Superseded | Ended::Lost => Err(StepError::Overtaken),
                }
            }
            result = self.steps.take(context) => result,
            () = tokio::time::sleep(worker.step_timeout) => Err(StepError::transient(
                format!("the step {} took longer than its {} s", context.step, worker.step_timeout.as_secs()),
                "See what the host or EC2 is busy with.",
            )),
            () = self.stop.cancelled() => {
                tracing::info!("step given back: the process stops");
                Err(StepError::Overtaken)
            }
        }
    }

    /// Writes the outcome, through an outage of Postgres as long as the lease may still stand.
    async fn write(&self, lease: &Lease, outcome: &Outcome) -> Option<Finished> {
        // It was taken or renewed before now, so by then it has expired.
        let give_up = Instant::now() + self.settings.worker.lease;
        loop {
            match self
                .repository
                .finish_step(lease, outcome, self.settings.worker.look_again)
                .await
            {
                Ok(finished) => {
                    if finished.check == LeaseCheck::Lost {
                        tracing::warn!(
                            gatewayd.id = lease.id,
                            "the lease was lost: the outcome is not written"
                        );
                    }
                    return Some(finished);
                }
                // Guards against the commit whose answer got lost: the second try finds the lease gone, and
                // the dispatcher pushes the next job.
                Err(error) if error.is_outage() && Instant::now() < give_up => {
                    tracing::warn!(gatewayd.id = lease.id, %error, "outcome not written; trying again");
                    tokio::time::sleep(POSTGRES_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(gatewayd.id = lease.id, %error, "outcome not written; the row waits for its lease to expire");
                    return None;
                }
            }
        }
    }
}

impl<S: Steps> resque::Handler for Runner<S> {
    async fn run(&self, job: Job) -> Result<(), Failure> {
        self.one(job).await
    }
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Advance { .. } => "advance",
        Outcome::Wait { .. } => "wait",
        Outcome::AwaitTurn { .. } => "turn",
        Outcome::BackOff { .. } => "backoff",
        Outcome::Pause { .. } => "pause",
        Outcome::Park { .. } => "park",
        Outcome::Release => "release",
    }
}

/// One line for the end of a step, and its error on its span.
fn log(result: &Result<Next, StepError>, took: Duration) {
    let took_ms = took.as_millis() as u64;
    let fail = |kind| telemetry::fail(&Span::current(), kind);
    match result {
        Ok(Next::Advance { done, .. }) => tracing::info!(took_ms, done, "step done"),
        Ok(Next::WaitUntil { waiting_for, .. } | Next::AwaitTurn { waiting_for, .. }) => {
            tracing::debug!(took_ms, waiting_for, "step waits")
        }
        Err(StepError::Overtaken) => tracing::info!(took_ms, "step overtaken"),
        Err(StepError::Transient(p)) => {
            fail("transient");
            tracing::warn!(took_ms, error = p.sentence, context = p.context, "step failed")
        }
        Err(StepError::Permanent(p)) => {
            fail("permanent");
            tracing::error!(took_ms, error = p.sentence, context = p.context, "step parked")
        }
        Err(StepError::Environment(p)) => {
            fail("environment");
            tracing::error!(
                took_ms,
                error = p.sentence,
                context = p.context,
                "surroundings failed: pausing"
            );
        }
    }
}

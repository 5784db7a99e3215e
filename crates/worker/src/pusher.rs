//! Pushing the job of a row, at once or after a while.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gatewayzen_bootstrap::telemetry;
use gatewayzen_core::{JobArgs, State, Step, crash};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::metrics::{METRICS, queue};

/// Pushes jobs. What it fails to push, the dispatcher finds when it looks at the row again: so it never
/// waits long, and an error is a line in the log.
#[derive(Clone)]
pub(crate) struct Pusher {
    pub(crate) queue: resque::Queue,
    pub(crate) marker_lifetime: Duration,
    pub(crate) shutdown: CancellationToken,
    /// The jobs that came too early and wait here.
    pub(crate) early: Arc<Mutex<HashSet<(i64, State)>>>,
}

/// Redis may be gone: how long a worker waits before it leaves the push to the dispatcher.
const PUSH_LIMIT: Duration = Duration::from_secs(2);

impl Pusher {
    /// Pushes the job of a row in a working state, unless the same is queued already.
    pub(crate) async fn push(&self, state: State, args: &JobArgs) {
        let Some(step) = state.step() else { return };
        let job = resque::Push {
            queue: step.queue().to_owned(),
            payload: args.payload(step),
        };
        let span = telemetry::send_span(step.queue(), args.id);
        if let Some(traceparent) = &args.traceparent {
            telemetry::set_parent(&span, traceparent);
        }
        self.send(step, args.id, job).instrument(span).await;
    }

    async fn send(&self, step: Step, id: i64, job: resque::Push) {
        let jobs = [job];
        let pushed = self.queue.push_unique_many(&jobs, self.marker_lifetime);
        match crash::around("push", tokio::time::timeout(PUSH_LIMIT, pushed)).await {
            Ok(Ok(pushed)) if pushed == [true] => METRICS.jobs_pushed.add(1, &[queue(step)]),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                telemetry::fail(&Span::current(), "redis");
                tracing::warn!(gatewayd.id = id, %step, %error, "job not pushed; the dispatcher will")
            }
            Err(_) => {
                telemetry::fail(&Span::current(), "timeout");
                tracing::warn!(gatewayd.id = id, %step, "job not pushed, Redis is slow; the dispatcher will")
            }
        }
    }

    /// Keeps a job that came too early, and pushes it after a while. One for a row: whoever pushes the same job
    /// many times must not fill this process's memory.
    pub(crate) fn push_once_after(&self, after: Duration, state: State, args: JobArgs) {
        let key = (args.id, state);
        if !self.early().insert(key) {
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(after) => {
                    this.early().remove(&key);
                    this.push(state, &args).await;
                }
                () = this.shutdown.cancelled() => {}
            }
        });
    }

    fn early(&self) -> std::sync::MutexGuard<'_, HashSet<(i64, State)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pushes it after a while. A shutdown forgets it: the dispatcher looks at the row soon after it is due.
    pub(crate) fn push_after(&self, after: Duration, state: State, args: JobArgs) {
        let this = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(after) => this.push(state, &args).await,
                () = this.shutdown.cancelled() => {}
            }
        });
    }
}

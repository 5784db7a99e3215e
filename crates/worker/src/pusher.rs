//! Pushing the job of a row, at once or after a while.

use std::time::Duration;

use gatewayzen_core::{JobArgs, State};
use tokio_util::sync::CancellationToken;

/// Pushes jobs. What it fails to push, the dispatcher finds when it looks at the row again: so it never
/// waits long, and an error is a line in the log.
#[derive(Clone)]
pub(crate) struct Pusher {
    pub(crate) queue: resque::Queue,
    pub(crate) marker_lifetime: Duration,
    pub(crate) shutdown: CancellationToken,
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
        let jobs = [job];
        let pushed = self.queue.push_unique_many(&jobs, self.marker_lifetime);
        match tokio::time::timeout(PUSH_LIMIT, pushed).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(id = args.id, %step, %error, "job not pushed; the dispatcher will")
            }
            Err(_) => {
                tracing::warn!(id = args.id, %step, "job not pushed, Redis is slow; the dispatcher will")
            }
        }
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

//! Runs steps: a job comes from Redis, its row is leased in Postgres, one step is taken, its outcome is
//! written, and the job of the next state is pushed.
//!
//! A worker implements [`Steps`] and hands it to [`Runner`]; everything that makes a step safe to crash, to
//! repeat and to overtake is here and in the database functions that this calls.

mod context;
pub mod https;
mod metrics;
mod outcome;
mod pusher;
mod renewal;
mod runner;
mod serve;
mod walk;

use std::time::Duration;

use gatewayzen_bootstrap::settings;
use gatewayzen_core::{Next, Step, StepError};

pub use context::StepContext;
pub use renewal::keep_run;
pub use runner::Runner;
pub use serve::serve;

/// The steps of one worker.
pub trait Steps: Send + Sync + 'static {
    /// The steps that this worker can take.
    fn all(&self) -> &'static [Step];

    /// Takes one step of one row.
    ///
    /// It may be dropped at any await point, and may be begun again by another process: whatever it does must
    /// be harmless to repeat, and what it finds out it must have read back.
    fn take(&self, context: &StepContext) -> impl Future<Output = Result<Next, StepError>> + Send;
}

/// Steps that something else of their process uses as well.
impl<S: Steps> Steps for std::sync::Arc<S> {
    fn all(&self) -> &'static [Step] {
        (**self).all()
    }

    fn take(&self, context: &StepContext) -> impl Future<Output = Result<Next, StepError>> + Send {
        (**self).take(context)
    }
}

/// How steps are run: the settings `worker` and `deadlines`.
#[derive(Debug, Clone)]
pub struct RunnerSettings {
    /// The settings that all workers share.
    pub worker: settings::Worker,
    /// How long a row may stay in a state.
    pub deadlines: settings::Deadlines,
}

impl RunnerSettings {
    /// How long the marker of a queued job holds off a second push of it. After that a row whose queue was
    /// cleared by hand gets its job again.
    pub fn marker_lifetime(&self) -> Duration {
        self.worker.look_again * 3
    }
}

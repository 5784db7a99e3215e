//! One job, in a task of its own.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task::AbortHandle};
use tracing::{error, warn};

use crate::{Failure, Handler, Job};

/// Which job of which slot. No two jobs of one process have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) slot: usize,
    pub(crate) number: u64,
}

impl Ticket {
    /// Its name in `inflight:PROCESS`.
    pub(crate) fn name(self) -> String {
        format!("{}-{}", self.slot, self.number)
    }
}

/// Says how a job's task ended, however that was.
pub(crate) struct Report {
    pub(crate) ticket: Ticket,
    /// `None` when the task was stopped before the handler came to an end.
    pub(crate) outcome: Option<Result<(), Failure>>,
}

/// Reports when it is dropped: at the end of the task, or when the task is stopped.
struct Reporter {
    report: Option<Report>,
    to: mpsc::UnboundedSender<Report>,
}

impl Reporter {
    fn ends(&mut self, outcome: Result<(), Failure>) {
        if let Some(report) = &mut self.report {
            report.outcome = Some(outcome);
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            // Nobody listens any more when the worker has given up on this job.
            let _ = self.to.send(report);
        }
    }
}

/// A job that was taken from a queue.
pub(crate) struct Taken {
    pub(crate) queue: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) rescues: u32,
}

/// Starts a job. `readable` becomes true when its payload was found to be a job.
pub(crate) fn start<H: Handler>(
    handler: Arc<H>,
    taken: Taken,
    ticket: Ticket,
    readable: Arc<AtomicBool>,
    to: mpsc::UnboundedSender<Report>,
) -> AbortHandle {
    let mut reporter = Reporter {
        report: Some(Report {
            ticket,
            outcome: None,
        }),
        to,
    };
    let task = tokio::spawn(async move {
        let queue = taken.queue.clone();
        let job = match Job::parse(taken.queue, taken.raw, taken.rescues) {
            Ok(job) => job,
            Err(reason) => {
                warn!(queue, "{reason} It is in the failed jobs.");
                reporter.ends(Err(Failure::new("Resque::NotAJob", reason)));
                return;
            }
        };
        readable.store(true, Ordering::Relaxed);
        let class = job.class.clone();
        // The handler is called inside, so that a panic before its first await is caught too.
        let running = AssertUnwindSafe(async { handler.run(job).await }).catch_unwind();
        let outcome = running.await.unwrap_or_else(|panic| {
            let text = panic_text(panic.as_ref());
            error!(queue, class, "a job panicked: {text}");
            Err(Failure::new("Resque::Panic", text))
        });
        reporter.ends(outcome);
    });
    task.abort_handle()
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the job panicked with something that is not text".to_owned())
}

//! One job in one slot: read, run, bring to its end in Redis.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, error, warn};

use crate::{
    Error, Failure, Handler, Job, Queue, WorkerConfig,
    backoff::Backoff,
    connection::Request,
    failed,
    id::Ids,
    scripts::{self, FINISH, GIVE_BACK},
};

/// How long a job that was told to stop may take to do so. One that never yields cannot be stopped.
const STOPPING: Duration = Duration::from_secs(1);

/// A job that was taken from a queue for a slot.
pub(crate) struct Claimed {
    pub(crate) slot: usize,
    pub(crate) queue: String,
    pub(crate) raw: Vec<u8>,
    pub(crate) sha: String,
    pub(crate) rescues: u32,
}

/// What the slots of a worker share.
pub(crate) struct Slots<H> {
    pub(crate) queue: Queue,
    pub(crate) config: Arc<WorkerConfig>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) handler: Arc<H>,
    /// Cancelled when jobs that still run must be given back.
    pub(crate) give_up: CancellationToken,
}

impl<H: Handler> Slots<H> {
    /// Runs a job to its end. Returns when Redis knows how it ended, or it was given back.
    pub(crate) async fn run(self: Arc<Self>, claimed: Claimed) {
        let id = self.ids.of(claimed.slot);
        let (queue, raw, sha) = (claimed.queue.clone(), claimed.raw.clone(), claimed.sha);
        let outcome = match Job::parse(claimed.queue, claimed.raw, claimed.rescues) {
            Ok(job) => self.handle(job).await,
            Err(reason) => {
                warn!(queue, "{reason} It is in the failed jobs.");
                Some(Err(Failure::new("Resque::NotAJob", reason)))
            }
        };
        match outcome {
            Some(Ok(())) => self.finish(id, &queue, &sha, &[]).await,
            Some(Err(failure)) => {
                let entry = failed::record(&failure, &raw, id, &queue);
                self.finish(id, &queue, &sha, &entry).await;
            }
            None => match give_back(&self.queue, &[id]).await {
                Ok(_) => debug!(queue, "a job in hand was given back to its queue"),
                Err(failure) => warn!(
                    queue,
                    "a job in hand could not be given back: {failure}; it is taken up again when its lease has run out"
                ),
            },
        }
    }

    /// Runs the handler in a task of its own, so that a panic ends the job and not the worker. `None`
    /// when the worker gives up in the middle.
    async fn handle(&self, job: Job) -> Option<Result<(), Failure>> {
        let limit = self.config.job_timeout;
        let (queue, class) = (job.queue.clone(), job.class.clone());
        let handler = self.handler.clone();
        let mut task = AbortOnDropHandle::new(tokio::spawn(async move { handler.run(job).await }));
        let ended = tokio::select! {
            ended = timeout(limit, &mut task) => ended.ok(),
            () = self.give_up.cancelled() => {
                task.abort();
                return match timeout(STOPPING, &mut task).await {
                    // It came to its end just before it was stopped.
                    Ok(Ok(outcome)) => Some(outcome),
                    _ => None,
                };
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                task.abort();
                match timeout(STOPPING, &mut task).await {
                    Ok(Ok(outcome)) => Ok(outcome),
                    _ => {
                        warn!(
                            queue,
                            class, "a job ran for {limit:?}, its limit, and was stopped"
                        );
                        return Some(Err(Failure::new(
                            "Resque::JobTimeout",
                            format!("The job ran for {limit:?}, its limit, and was stopped."),
                        )));
                    }
                }
            }
        };
        Some(ended.unwrap_or_else(|end| {
            let text = match end.try_into_panic() {
                Ok(panic) => panic_text(panic.as_ref()),
                Err(_) => "the task of the job was cancelled".to_owned(),
            };
            error!(queue, class, "a job panicked: {text}");
            Err(Failure::new("Resque::Panic", text))
        }))
    }

    /// Tells Redis how the job ended, for as long as that takes: until then the slot is not free, so
    /// that no later job can be mistaken for this one.
    async fn finish(&self, id: &str, queue: &str, sha: &str, entry: &[u8]) {
        let mut call = scripts::call(&FINISH, &self.queue.prefix);
        call.arg(id).arg(sha).arg(self.config.failed_limit).arg(entry);
        let mut backoff = Backoff::new();
        let mut last_failure: Option<Error> = None;
        loop {
            match self.queue.redis.call::<u8>(Request::Script(&call)).await {
                Ok(1) => return,
                Ok(_) => {
                    // An earlier try may have been carried out and its answer lost.
                    if last_failure.is_none() {
                        warn!(
                            queue,
                            worker = id,
                            "a job ended after its lease was lost: it counts for nothing here, and may run again"
                        );
                    }
                    return;
                }
                Err(failure) => {
                    if !failure.is_outage() && last_failure.as_ref() != Some(&failure) {
                        error!(
                            queue,
                            "the end of a job could not be recorded: {failure}; trying again"
                        );
                    }
                    last_failure = Some(failure);
                    backoff.wait().await;
                }
            }
        }
    }
}

/// Puts whatever these slots hold back to the head of its queue, and says how many jobs that were.
pub(crate) async fn give_back(queue: &Queue, ids: &[&str]) -> Result<usize, Error> {
    let mut returned = 0;
    for ids in ids.chunks(500) {
        let mut call = scripts::call(&GIVE_BACK, &queue.prefix);
        call.arg(ids);
        returned += queue.redis.call::<usize>(Request::Script(&call)).await?;
    }
    Ok(returned)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the job panicked with something that is not text".to_owned())
}

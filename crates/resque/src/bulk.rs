//! Pushing many jobs in one round trip.

use std::time::Duration;

use redis::Pipeline;

use crate::{
    Error, Queue,
    connection::Request,
    scripts::{self, PUSH_UNIQUE},
};

/// One job to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// The queue's name.
    pub queue: String,
    /// The bytes of the job, as [`payload`](crate::payload) makes them.
    pub payload: Vec<u8>,
}

impl Queue {
    /// Appends all jobs to their queues, in their order, in one round trip. Keys: `queues`, `queue:NAME`.
    ///
    /// # Errors
    /// When Redis cannot be asked. Any part of the jobs may have been pushed then.
    pub async fn push_many(&self, jobs: &[Push]) -> Result<(), Error> {
        if jobs.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = jobs.iter().map(|job| job.queue.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let mut pipeline = Pipeline::new();
        for names in names.chunks(CHUNK) {
            pipeline.sadd(self.key("queues"), names).ignore();
        }
        for jobs in jobs.chunk_by(|one, next| one.queue == next.queue) {
            let Some(first) = jobs.first() else { continue };
            let key = self.key(&format!("queue:{}", first.queue));
            for chunk in chunks(jobs) {
                pipeline.cmd("RPUSH").arg(&key);
                for job in chunk {
                    pipeline.arg(&job.payload);
                }
                pipeline.ignore();
            }
        }
        self.redis.call(Request::Pipeline(&pipeline)).await
    }

    /// Appends those of `jobs` that are not queued already, in one round trip, and says of each, in their
    /// order, whether it appended it.
    ///
    /// A job counts as queued from its push until a worker of this crate takes it: one that runs may be
    /// queued again. The marker of a queued job is believed for `marker_ttl`; after that the queue itself
    /// is searched for the job, unless it is longer than 10,000 (then the marker counts for ten times as
    /// long). So a queue that was cleared by hand, or drained by another client, delays a job by no more
    /// than that, one that is empty does not delay it at all, and looking again for ever grows no backlog.
    /// Keys: `queues`, `queue:NAME`, `unique`, `unique:NAME:SHA1`.
    ///
    /// # Errors
    /// When Redis cannot be asked. Any part of the jobs may have been pushed; pushing all again is safe.
    pub async fn push_unique_many(&self, jobs: &[Push], marker_ttl: Duration) -> Result<Vec<bool>, Error> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let ttl = marker_ttl.as_millis().clamp(1, i64::MAX as u128).to_string();
        let mut pipeline = Pipeline::new();
        pipeline.load_script(&PUSH_UNIQUE.script).ignore();
        for chunk in chunks(jobs) {
            let mut call = scripts::call(&PUSH_UNIQUE, &self.prefix);
            call.arg(&ttl);
            for job in chunk {
                call.arg(&job.queue).arg(&job.payload);
            }
            pipeline.invoke_script(&call);
        }
        let pushed: Vec<Vec<bool>> = self.redis.call(Request::Pipeline(&pipeline)).await?;
        Ok(pushed.concat())
    }
}

/// The most jobs, or names, in one command.
const CHUNK: usize = 500;

/// Divides jobs into parts small enough that Redis is not held up by one of them.
fn chunks(mut jobs: &[Push]) -> impl Iterator<Item = &[Push]> {
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = jobs.iter().take(CHUNK).take_while(|job| {
            bytes += job.payload.len();
            bytes <= 1024 * 1024
        });
        let (chunk, rest) = jobs.split_at_checked(fitting.count().max(1))?;
        jobs = rest;
        Some(chunk)
    })
}

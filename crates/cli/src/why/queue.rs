//! What Redis knows of one row's step: who listens, what waits, and where the row's own job is.

use std::collections::BTreeSet;
use std::time::Duration;

use gatewayzen_core::{Gatewayd, JobArgs, Step};
use resque::{Queue, WorkerInfo};
use serde_json::Value;

/// How many waiting jobs, and how many of the newest failed ones, are looked at.
const LOOK_AT: usize = 1000;

/// A queue as it is seen from here.
#[derive(Debug, Clone)]
pub(crate) enum QueueView {
    /// The row has no step to take, so nobody asked.
    NotAsked,
    /// Redis did not answer; the sentence says what happened.
    Unreachable(String),
    /// It did.
    Seen(Seen),
}

/// The queue of one step.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Whether somebody stopped all workers (`pause-all-workers`).
    pub(crate) paused: bool,
    /// Processes that listen on the queue and are alive.
    pub(crate) processes: usize,
    /// Their slots, each of which takes one job at a time.
    pub(crate) slots: usize,
    /// Of those, with a job in hand.
    pub(crate) busy: usize,
    /// A worker that is registered for the queue but has not been heard of for so long.
    pub(crate) silent: Option<(String, Duration)>,
    /// Jobs that wait in the queue.
    pub(crate) waiting: usize,
    /// How many of them stand before this row's job; `None` where it was not found.
    pub(crate) ahead: Option<usize>,
    /// How many of them were looked at.
    pub(crate) looked_at: usize,
    /// The worker that shows this row's job as its own.
    pub(crate) taken_by: Option<String>,
    /// The place of this row's fault in Resque's list `failed`.
    pub(crate) failed_entry: Option<usize>,
}

/// Asks Redis about a row's step.
pub(crate) async fn look(queue: &Queue, step: Step, row: &Gatewayd) -> QueueView {
    match seen(queue, step, row).await {
        Ok(seen) => QueueView::Seen(seen),
        Err(error) => QueueView::Unreachable(error.to_string()),
    }
}

async fn seen(queue: &Queue, step: Step, row: &Gatewayd) -> Result<Seen, resque::Error> {
    let name = step.queue();
    let mut seen = Seen {
        paused: queue.is_paused().await?,
        waiting: queue.len(name).await?,
        ..Seen::default()
    };
    let waiting = queue.peek(name, 0, LOOK_AT).await?;
    seen.looked_at = waiting.len();
    seen.ahead = waiting.iter().position(|job| is_of(job, row));
    add_workers(&mut seen, name, row, queue.workers().await?);
    if row.fault.is_some() {
        let all = queue.failed_count().await?;
        let entries = queue.failed(all.saturating_sub(LOOK_AT), LOOK_AT).await?;
        seen.failed_entry = entries
            .iter()
            .rev()
            .find(|entry| {
                entry.queue == name
                    && args(&entry.payload)
                        .is_some_and(|a| a.id == row.id && a.generation == Some(row.generation))
            })
            .map(|entry| entry.index);
    }
    Ok(seen)
}

fn add_workers(seen: &mut Seen, name: &str, row: &Gatewayd, workers: Vec<WorkerInfo>) {
    let mut processes = BTreeSet::new();
    for worker in workers.into_iter().filter(|worker| worker.listens_on(name)) {
        if worker
            .working
            .as_ref()
            .is_some_and(|job| job.queue == name && is_of(&job.payload, row))
        {
            seen.taken_by = Some(worker.id.clone());
        }
        match worker.silent_for {
            Some(silent) if silent > patience(&worker) => {
                if seen.silent.as_ref().is_none_or(|(_, other)| silent < *other) {
                    seen.silent = Some((worker.id, silent));
                }
            }
            _ => {
                seen.slots += 1;
                seen.busy += usize::from(worker.working.is_some());
                processes.insert(process(&worker));
            }
        }
    }
    seen.processes = processes.len();
}

/// Host and process of a worker; ours have a registration for each slot, which the pid part tells after a "+".
pub(crate) fn process(worker: &WorkerInfo) -> String {
    let pid = worker.pid.split('+').next().unwrap_or_default();
    format!("{}:{pid}", worker.host)
}

/// How long a living worker may be silent: ours beat every ten seconds, Ruby's every minute.
pub(crate) fn patience(worker: &WorkerInfo) -> Duration {
    Duration::from_secs(if worker.pid.contains('+') { 35 } else { 150 })
}

/// Whether a job is for this row as it is now.
fn is_of(payload: &[u8], row: &Gatewayd) -> bool {
    args(payload).is_some_and(|args| args.id == row.id && args.generation.is_none_or(|g| g == row.generation))
}

fn args(payload: &[u8]) -> Option<JobArgs> {
    let job: Value = serde_json::from_slice(payload).ok()?;
    JobArgs::parse(job.get("args")?.as_array()?).ok()
}

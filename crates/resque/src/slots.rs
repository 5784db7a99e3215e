//! What each slot of a worker is doing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::AbortHandle, time::Instant};
use tracing::warn;

use crate::{
    Failure, failed,
    id::Ids,
    run::{Report, Ticket},
};

/// A job that runs for longer than this is shown to other clients as `worker:ID`. Those that are quicker
/// would be gone before anybody could look, and showing them would cost more than running them.
const SHOW_AFTER: Duration = Duration::from_millis(10);
/// How long a job that was told to stop may take to do so. One that never yields cannot be stopped.
pub(crate) const STOPPING: Duration = Duration::from_secs(1);

/// A job in hand.
pub(crate) struct Running {
    pub(crate) ticket: Ticket,
    pub(crate) queue: String,
    pub(crate) raw: Vec<u8>,
    /// Its field of `rescues`, if it was rescued before.
    pub(crate) rescue: Option<Vec<u8>>,
    pub(crate) run_at: String,
    pub(crate) began: Instant,
    pub(crate) readable: Arc<AtomicBool>,
    pub(crate) task: AbortHandle,
    pub(crate) shown: bool,
    /// Whether it may be shown, and must be hidden at its end.
    pub(crate) hide: bool,
    /// When it was told to stop, its time being over.
    pub(crate) stopped: Option<Instant>,
}

/// A job whose end Redis must be told. Its slot is not free before that.
pub(crate) struct Ended {
    pub(crate) ticket: Ticket,
    pub(crate) rescue: Vec<u8>,
    /// The entry for `failed`; empty when it ended well.
    pub(crate) entry: Vec<u8>,
    pub(crate) hide: bool,
}

/// All slots of a worker.
pub(crate) struct Slots {
    slots: Vec<Option<Running>>,
    pub(crate) free: Vec<usize>,
    pub(crate) running: usize,
    pub(crate) ended: Vec<Ended>,
    /// The slots whose job shall be shown.
    pub(crate) to_show: Vec<usize>,
    /// When to look at them all the next time.
    pub(crate) look_at: Instant,
    job_timeout: Duration,
    ids: Arc<Ids>,
}

impl Slots {
    pub(crate) fn new(number: usize, job_timeout: Duration, ids: Arc<Ids>) -> Self {
        Self {
            slots: (0..number).map(|_| None).collect(),
            // The first is taken first.
            free: (0..number).rev().collect(),
            running: 0,
            ended: Vec::new(),
            to_show: Vec::new(),
            look_at: Instant::now(),
            job_timeout,
            ids,
        }
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Running> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().flatten()
    }

    pub(crate) fn begin(&mut self, job: Running) {
        self.look_at = self.look_at.min(job.began + SHOW_AFTER.min(self.job_timeout));
        if let Some(place) = self.slots.get_mut(job.ticket.slot) {
            *place = Some(job);
            self.running += 1;
        }
    }

    /// Notes how a job ended, unless it was given up before.
    pub(crate) fn report(&mut self, report: Report) {
        let Some(place) = self.slots.get_mut(report.ticket.slot) else {
            return;
        };
        let Some(job) = place.take_if(|job| job.ticket == report.ticket) else {
            return;
        };
        self.running -= 1;
        let outcome = match report.outcome {
            // It may have come to its end just before it was stopped.
            Some(outcome) => outcome,
            None => Err(timed_out(&job, self.job_timeout)),
        };
        self.end(job, &outcome);
    }

    fn end(&mut self, job: Running, outcome: &Result<(), Failure>) {
        let entry = match outcome {
            Ok(()) => Vec::new(),
            Err(failure) => failed::record(failure, &job.raw, self.ids.of(job.ticket.slot), &job.queue),
        };
        self.ended.push(Ended {
            ticket: job.ticket,
            rescue: job.rescue.unwrap_or_default(),
            entry,
            hide: job.hide,
        });
    }

    /// Goes through all slots: stops the jobs whose time is over, and notes which are to be shown.
    pub(crate) fn look(&mut self, now: Instant) {
        let mut next = now + self.job_timeout.min(Duration::from_secs(60));
        let mut dead = Vec::new();
        self.to_show.clear();
        for job in self.slots.iter_mut().flatten() {
            if let Some(stopped) = job.stopped {
                if now >= stopped + STOPPING {
                    dead.push(job.ticket);
                } else {
                    next = next.min(stopped + STOPPING);
                }
                continue;
            }
            let ends = job.began + self.job_timeout;
            if now >= ends {
                job.task.abort();
                job.stopped = Some(now);
                next = next.min(now + STOPPING);
                continue;
            }
            next = next.min(ends);
            if job.shown {
                continue;
            }
            if now < job.began + SHOW_AFTER {
                next = next.min(job.began + SHOW_AFTER);
            } else if job.readable.load(Ordering::Relaxed) {
                job.hide = true;
                self.to_show.push(job.ticket.slot);
            } else {
                // Still being read. What is no JSON must not be shown: other clients' pages fail on it.
                next = next.min(now + SHOW_AFTER);
            }
        }
        self.look_at = next;
        for ticket in dead {
            self.report(Report {
                ticket,
                outcome: None,
            });
        }
    }

    /// What other clients see of a job: the text of `worker:ID`.
    pub(crate) fn shown_text(&self, job: &Running) -> Vec<u8> {
        let worker = self.ids.of(job.ticket.slot);
        let name = worker
            .match_indices(':')
            .nth(1)
            .map_or(worker, |(end, _)| &worker[..end]);
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let head = format!(
            "{{\"queue\":{},\"run_at\":\"{}\",\"worker\":{},\"payload\":",
            quoted(&job.queue),
            job.run_at,
            quoted(name)
        );
        [head.as_bytes(), &job.raw, b"}"].concat()
    }

    pub(crate) fn set_shown(&mut self, slot: usize) {
        if let Some(Some(job)) = self.slots.get_mut(slot) {
            job.shown = true;
        }
    }

    /// Stops all jobs. What they report from then on counts if it is an end of their own.
    pub(crate) fn stop_all(&self) {
        for job in self.all() {
            job.task.abort();
        }
    }

    /// Forgets a job that was stopped in order to be given back.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        if let Some(place) = self.slots.get_mut(ticket.slot)
            && place.take_if(|job| job.ticket == ticket).is_some()
        {
            self.running -= 1;
        }
    }
}

fn timed_out(job: &Running, limit: Duration) -> Failure {
    warn!(
        queue = job.queue,
        "a job ran for {limit:?}, its limit, and was stopped"
    );
    Failure::new(
        "Resque::JobTimeout",
        format!("The job ran for {limit:?}, its limit, and was stopped."),
    )
}

//! One round trip of a worker: tells Redis what ended and what runs, and takes new jobs.

use redis::ScriptInvocation;

use crate::{
    Error, Queue, WorkerConfig,
    beat::millis,
    connection::Request,
    id::Ids,
    run::Ticket,
    scripts::{self, STEP},
    slots::{Ended, Slots},
};

/// The most ends, and the most jobs taken, in one step: Redis is not held up for longer.
pub(crate) const LIMIT: usize = 256;
/// The most bytes of failed entries in one step, unless one alone is larger.
const BYTES: usize = 4 * 1024 * 1024;

/// What a step is to do. The first [`LIMIT`] of `slots.ended` are told in any case.
pub(crate) struct Step<'a> {
    pub(crate) queue: &'a Queue,
    pub(crate) config: &'a WorkerConfig,
    pub(crate) ids: &'a Ids,
    pub(crate) slots: &'a Slots,
    /// Whether jobs that this process holds and does not know of are to be given back.
    pub(crate) recover: bool,
    /// For jobs to be taken.
    pub(crate) tickets: &'a [Ticket],
    /// Which queue is looked at first, where they take turns.
    pub(crate) turn: usize,
}

/// What came of a step.
pub(crate) struct Answer {
    /// Somebody paused all workers.
    pub(crate) paused: bool,
    /// There may be more jobs in the queues.
    pub(crate) more: bool,
    /// A queue that could not be read; empty when there was none.
    pub(crate) trouble: String,
    /// How many of the ends did not count, the lease being lost.
    pub(crate) lost: usize,
    /// How many unknown jobs were given back.
    pub(crate) returned: usize,
    /// The jobs that were taken, in the order of the tickets.
    pub(crate) taken: Vec<(String, Vec<u8>)>,
    /// Of these, the place, the field of `rescues`, and the number of rescues of those that have any.
    pub(crate) rescued: Vec<(usize, Vec<u8>, u32)>,
}

/// How many of the ends go into the next step.
pub(crate) fn ends_of(ended: &[Ended]) -> usize {
    let mut bytes = 0;
    let fitting = ended.iter().take(LIMIT).take_while(|end| {
        bytes += end.entry.len();
        bytes <= BYTES
    });
    fitting.count().max(1).min(ended.len())
}

impl Step<'_> {
    /// Takes the step, once: a repetition with the same tickets could write one job over another.
    pub(crate) async fn take(&self) -> Result<Answer, Error> {
        let call = self.call();
        type Wire = (
            u8,
            u8,
            String,
            usize,
            usize,
            Vec<(Vec<u8>, Vec<Vec<u8>>)>,
            Vec<(usize, Vec<u8>, u32)>,
        );
        let (paused, more, trouble, lost, returned, queues, rescued): Wire =
            self.queue.redis.call_once(Request::Script(&call)).await?;
        let mut taken = Vec::with_capacity(self.tickets.len());
        for (queue, raws) in queues {
            let queue = String::from_utf8_lossy(&queue);
            taken.extend(raws.into_iter().map(|raw| (queue.clone().into_owned(), raw)));
        }
        Ok(Answer {
            paused: paused == 1,
            more: more == 1,
            trouble,
            lost,
            returned,
            taken,
            rescued,
        })
    }

    fn call(&self) -> ScriptInvocation<'static> {
        let ended = &self.slots.ended[..ends_of(&self.slots.ended)];
        let plain = |end: &&Ended| end.entry.is_empty() && end.rescue.is_empty();
        let well: Vec<&Ended> = ended.iter().filter(plain).collect();
        let noted: Vec<&Ended> = ended.iter().filter(|end| !plain(end)).collect();
        let hidden: Vec<&Ended> = ended.iter().filter(|end| end.hide).collect();
        let shown: Vec<_> = self
            .slots
            .to_show
            .iter()
            .filter_map(|slot| self.slots.get(*slot))
            .collect();
        let mut known = Vec::new();
        if self.recover {
            known.push("1".to_owned());
            known.extend(self.slots.all().map(|job| job.ticket.name()));
            // Those whose end is told in a later step are held all the same.
            known.extend(
                self.slots.ended[ended.len()..]
                    .iter()
                    .map(|end| end.ticket.name()),
            );
        }
        let mut queues: Vec<&String> = Vec::new();
        if !self.tickets.is_empty() {
            queues.extend(&self.config.queues);
            if self.config.take_turns {
                let first = self.turn % queues.len().max(1);
                queues.rotate_left(first);
            }
        }

        let mut call = scripts::call(&STEP, &self.queue.prefix);
        call.arg(self.ids.process())
            .arg(millis(self.config.lease))
            .arg(self.config.failed_limit);
        let lengths = [
            well.len(),
            noted.len() * 3,
            shown.len() * 3,
            hidden.len(),
            known.len(),
            self.tickets.len(),
            queues.len(),
        ];
        call.arg(&lengths);
        for end in well {
            call.arg(end.ticket.name());
        }
        for end in noted {
            call.arg(end.ticket.name()).arg(&end.rescue).arg(&end.entry);
        }
        for job in shown {
            call.arg(job.ticket.name())
                .arg(self.ids.of(job.ticket.slot))
                .arg(self.slots.shown_text(job));
        }
        for end in hidden {
            call.arg(self.ids.of(end.ticket.slot));
        }
        call.arg(known);
        for ticket in self.tickets {
            call.arg(ticket.name());
        }
        call.arg(queues);
        call
    }
}

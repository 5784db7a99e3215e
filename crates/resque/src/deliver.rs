//! How a worker's loop and Redis come to agree on who does what.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    Handler,
    backoff::Backoff,
    clock,
    run::{self, Taken, Ticket},
    slots::Running,
    step::{self, Answer, Step},
    worker::Worker,
};

/// An idle worker looks into its queues this often even if nothing wakes it, and every worker this often for
/// jobs that Redis holds for it and that it does not know of.
const IDLE: Duration = Duration::from_secs(60);
/// After a failure it looks for such jobs oftener,
const SUSPICIOUS: Duration = Duration::from_secs(1);
/// for as long as Redis may still come to a request that nobody waits for any more.
const LATE: Duration = Duration::from_secs(30);

/// What a worker remembers of its round trips.
pub(crate) struct Delivery {
    /// Of the last ticket.
    number: u64,
    /// How often jobs were asked for.
    turn: usize,
    /// When jobs were looked for that Redis may hold for this process without its knowing, because a step's
    /// answer was lost on the way. `None` at once after a failure.
    recovered: Option<Instant>,
    failed_at: Option<Instant>,
    /// How many of the last steps failed.
    failures: u32,
    backoff: Backoff,
    /// The last trouble that was logged, so that one that lasts is logged once.
    trouble: Option<String>,
}

impl Delivery {
    pub(crate) fn new() -> Self {
        Self {
            number: 0,
            turn: 0,
            recovered: Some(Instant::now()),
            failed_at: None,
            failures: 0,
            backoff: Backoff::new(),
            trouble: None,
        }
    }

    /// When a step must look for jobs that this process does not know of.
    pub(crate) fn recover_at(&self) -> Instant {
        let Some(recovered) = self.recovered else {
            // At once; this is in the past.
            return self.failed_at.unwrap_or_else(Instant::now);
        };
        let late = self.failed_at.is_some_and(|failed| recovered < failed + LATE);
        recovered + if late { SUSPICIOUS } else { IDLE }
    }

    /// A step failed, or was cut short. What became of it is not known.
    pub(crate) fn failed(&mut self) {
        self.recovered = None;
        self.failed_at = Some(Instant::now());
        self.failures += 1;
    }
}

impl<H: Handler> Worker<H> {
    /// Tells Redis what there is to tell, and takes jobs for the free slots. False when that failed.
    pub(crate) async fn step(&mut self, take: bool) -> bool {
        let ends = step::ends_of(&self.slots.ended);
        let tickets = if take { self.tickets(ends) } else { Vec::new() };
        let recover = Instant::now() >= self.delivery.recover_at();
        let step = Step {
            queue: &self.queue,
            config: &self.config,
            ids: &self.ids,
            slots: &self.slots,
            recover,
            tickets: &tickets,
            turn: self.delivery.turn,
        };
        if !tickets.is_empty() {
            self.delivery.turn = self.delivery.turn.wrapping_add(1);
        }
        match step.take().await {
            Ok(answer) => {
                if recover {
                    self.delivery.recovered = Some(Instant::now());
                }
                self.stepped(ends, tickets, answer);
                true
            }
            Err(failure) => {
                if !failure.is_outage() {
                    self.complain(format!("jobs can be neither taken nor ended: {failure}"));
                }
                // Those of the ending jobs are not free yet.
                let free = tickets.iter().skip(ends).rev().map(|ticket| ticket.slot);
                self.slots.free.extend(free);
                self.delivery.failed();
                false
            }
        }
    }

    /// Waits after every second failure only: the first after a wait is mostly a connection that broke unnoticed.
    pub(crate) async fn wait_to_repeat(&mut self) {
        if self.delivery.failures.is_multiple_of(2) {
            self.delivery.backoff.wait().await;
        }
    }

    /// Tickets for jobs to be taken: for the slots of the jobs that end in the same step, and for free ones.
    fn tickets(&mut self, ends: usize) -> Vec<Ticket> {
        let ending = self.slots.ended.iter().take(ends).map(|end| end.ticket.slot);
        let mut slots: Vec<usize> = ending.collect();
        while slots.len() < step::LIMIT
            && let Some(slot) = self.slots.free.pop()
        {
            slots.push(slot);
        }
        let first = self.delivery.number + 1;
        self.delivery.number += slots.len() as u64;
        let numbered = slots.into_iter().zip(first..);
        numbered.map(|(slot, number)| Ticket { slot, number }).collect()
    }

    fn stepped(&mut self, ends: usize, tickets: Vec<Ticket>, answer: Answer) {
        if answer.lost > 0 && self.delivery.failures == 0 {
            warn!(
                "{} jobs ended after their lease was lost: they count for nothing here, and may run again",
                answer.lost
            );
        }
        if answer.returned > 0 {
            info!(
                "{} jobs whose delivery had failed were given back to their queues",
                answer.returned
            );
        }
        if answer.trouble.is_empty() {
            self.delivery.trouble = None;
        } else {
            self.complain(format!(
                "a queue cannot be read and is left out: {}",
                answer.trouble
            ));
        }
        self.delivery.failures = 0;
        self.delivery.backoff.reset();
        for slot in std::mem::take(&mut self.slots.to_show) {
            self.slots.set_shown(slot);
        }
        let taking = !tickets.is_empty();
        for end in self.slots.ended.drain(..ends) {
            // Which ones were lost is not known; they are seldom, and the count is only for show.
            if answer.lost == 0 {
                self.counts.add(end.ticket.slot, !end.entry.is_empty());
            }
            if !taking {
                self.slots.free.push(end.ticket.slot);
            }
        }
        let polls = self.config.queues.iter().any(|name| name == "*");
        let empty = taking && !answer.paused && !answer.more;
        let pause = match (answer.paused, answer.more) {
            (true, _) => self.config.poll,
            (_, true) => Duration::ZERO,
            _ if polls => self.config.poll,
            _ => IDLE,
        };
        self.start(tickets, answer);
        if taking {
            self.empty = empty;
            self.seek_at = (!self.slots.free.is_empty()).then(|| Instant::now() + pause);
        } else if self.seek_at.is_none() {
            self.seek_at = Some(Instant::now());
        }
    }

    /// Starts the jobs that were taken, and frees the slots for which there was none.
    fn start(&mut self, tickets: Vec<Ticket>, answer: Answer) {
        let (began, run_at) = (Instant::now(), clock::run_at());
        let mut rescued = answer.rescued.into_iter().peekable();
        let mut tickets = tickets.into_iter();
        for ((place, (queue, raw)), ticket) in (1..).zip(answer.taken).zip(&mut tickets) {
            let rescue = rescued.next_if(|(number, ..)| *number == place);
            let readable = Arc::new(AtomicBool::new(false));
            let taken = Taken {
                queue: queue.clone(),
                raw: raw.clone(),
                rescues: rescue.as_ref().map_or(0, |(_, _, rescues)| *rescues),
            };
            let handler = self.handler.clone();
            let task = run::start(handler, taken, ticket, readable.clone(), self.reporter.clone());
            self.slots.begin(Running {
                ticket,
                queue,
                raw,
                rescue: rescue.map(|(_, field, _)| field),
                run_at: run_at.clone(),
                began,
                readable,
                task,
                shown: false,
                hide: false,
                stopped: None,
            });
        }
        self.slots.free.extend(tickets.rev().map(|ticket| ticket.slot));
    }

    fn complain(&mut self, text: String) {
        if self.delivery.trouble.as_ref() != Some(&text) {
            error!("{text}; trying again");
            self.delivery.trouble = Some(text);
        }
    }
}

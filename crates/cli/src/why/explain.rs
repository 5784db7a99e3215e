//! What a gatewayd is doing or waiting for, and what would unblock it: from its row, its history, and its queue.

use std::time::Duration;

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_core::repository::{Halt, HistoryEntry};
use gatewayzen_core::{Gatewayd, State, Step};
use time::OffsetDateTime;

use super::queue::QueueView;
use super::{due, parked};
use crate::text::{between, count, duration, moment};

/// All that an answer is made from.
#[derive(Debug, Clone)]
pub(crate) struct Case<'a> {
    pub(crate) row: &'a Gatewayd,
    pub(crate) history: &'a [HistoryEntry],
    /// When the dispatcher looks at the row again.
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) queue: &'a QueueView,
    /// The halt of the whole fleet, where one is in force.
    pub(crate) halt: Option<&'a Halt>,
    pub(crate) limits: &'a Limits,
}

/// The settings that bound a step.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) max_attempts: u32,
    pub(crate) lease: Duration,
    pub(crate) look_again: Duration,
    pub(crate) period: Duration,
    /// How long the row may stay in its state.
    pub(crate) deadline: Option<Duration>,
}

impl Limits {
    pub(crate) fn of(settings: &Settings, state: State) -> Limits {
        Limits {
            max_attempts: settings.worker.max_attempts,
            lease: settings.worker.lease,
            look_again: settings.worker.look_again,
            period: settings.dispatcher.period,
            deadline: settings.deadlines.of(state),
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// One word for scripts.
    pub(crate) situation: &'static str,
    /// One sentence.
    pub(crate) headline: String,
    /// What bears it out: label and text.
    pub(crate) details: Vec<(String, String)>,
    /// What unblocks it, as an instruction.
    pub(crate) unblock: String,
}

/// Says what is the matter with a row, or that nothing is.
pub(crate) fn explain(case: &Case<'_>) -> Answer {
    let row = case.row;
    let now = row.read_at;
    let (situation, headline, mut details, unblock) = if row.hold.is_some() {
        parked::on_hold(case)
    } else if row.fault.is_some() {
        parked::faulty(case)
    } else {
        match row.state.step() {
            None => parked::idle(row),
            Some(step) if row.lease_until.is_some_and(|until| until > now) => leased(case, step),
            Some(step) if case.halt.is_some() && !Halt::lets_work(row.state) => parked::halted(case, step),
            Some(step) if row.next_try_at.is_some_and(|at| at > now) => later(case, step),
            Some(step) => due::due(case, step),
        }
    };
    details.insert(
        0,
        detail("state", format!("{} since {}", row.state, moment(row.since, now))),
    );
    if let Some(mover) = case
        .history
        .iter()
        .rev()
        .find(|e| matches!(e.event.as_str(), "moved" | "created"))
    {
        let why = mover
            .why
            .as_deref()
            .map(|why| format!(": {why}"))
            .unwrap_or_default();
        details.insert(1, detail("moved by", format!("{}{why}", mover.by)));
    }
    if let Some(halt) = case.halt {
        details.push(detail("fleet", crate::halts::sentence(halt, now)));
    }
    details.extend(machine(row));
    Answer {
        situation,
        headline,
        details,
        unblock,
    }
}

pub(super) type Parts = (&'static str, String, Vec<(String, String)>, String);

pub(super) fn detail(label: &str, text: impl Into<String>) -> (String, String) {
    (label.to_owned(), text.into())
}

/// What a step does, after "is".
pub(super) fn doing(row: &Gatewayd, step: Step) -> String {
    match step {
        Step::InitializeEc2Instance => "launching its EC2 instance".into(),
        Step::RetrieveApiKey => "reading its API key and making its certificate".into(),
        Step::StartGatewayd => "starting gatewayd".into(),
        Step::SetColdWallet => "setting the cold wallet's address".into(),
        Step::StopGatewayd => "stopping gatewayd".into(),
        Step::UpdateGatewayd => match &row.release {
            Some(release) => format!("bringing gatewayd to release {release}"),
            None => "updating gatewayd".into(),
        },
        Step::TerminateEc2Instance => "ending its EC2 instance".into(),
    }
}

fn leased(case: &Case<'_>, step: Step) -> Parts {
    let row = case.row;
    let (now, limits) = (row.read_at, case.limits);
    let until = row.lease_until.unwrap_or(now);
    let mut details = lease(row);
    let owner = row.lease_owner.as_deref().unwrap_or("a worker");
    // Taking a lease counts an attempt, and a write of the state sets them to none.
    if row.attempts == 0 {
        let headline = format!(
            "waiting for the step before the last write of its state to end, which {owner} has in hand"
        );
        let unblock = format!(
            "Nothing to do: {} begins when that step ends, or at the latest {} after its worker's last sign of life.",
            step,
            duration(limits.lease)
        );
        return ("superseded", headline, details, unblock);
    }
    details.push(attempts(case));
    if let Some(error) = &row.last_error {
        details.push(last_error(row, error));
    }
    details.extend(deadline(case));
    let renewed = until - limits.lease;
    let silent = between(renewed.max(row.lease_taken_at.unwrap_or(renewed)), now);
    if silent > limits.lease / 2 {
        let headline = format!(
            "{owner} has its step in hand, but has not renewed the lease for {}: it may have died",
            duration(silent)
        );
        let unblock = format!(
            "Nothing to do yet: if that worker is dead, the lease ends at {} and the dispatcher gives the step to \
             another {}.{}",
            crate::text::clock(until),
            step.worker(),
            due::nobody(case, step)
                .map(|nobody| format!(" But {nobody}."))
                .unwrap_or_default()
        );
        return ("worker_silent", headline, details, unblock);
    }
    let headline = format!(
        "{} (step {step}, attempt {} of {})",
        doing(row, step),
        row.attempts,
        limits.max_attempts
    );
    (
        "in_hand",
        headline,
        details,
        "Nothing to do: the step is in hand.".into(),
    )
}

fn later(case: &Case<'_>, step: Step) -> Parts {
    let row = case.row;
    let now = row.read_at;
    let next = row.next_try_at.unwrap_or(now);
    let mut details = Vec::new();
    let absent = due::nobody(case, step);
    let then = absent
        .as_ref()
        .map(|nobody| format!(" But {nobody}."))
        .unwrap_or_default();
    let parts = match (&row.waiting_for, &row.last_error) {
        (Some(waiting_for), _) => {
            details.push(detail("next look", moment(next, now)));
            let headline = format!("waiting for {waiting_for}");
            (
                "waiting",
                headline,
                details,
                format!("Nothing to do: step {step} looks again by itself.{then}"),
            )
        }
        (None, Some(error)) => {
            details.push(attempts(case));
            details.push(last_error(row, error));
            details.push(detail("next try", moment(next, now)));
            let headline = if row.attempts == 0 {
                format!(
                    "step {step} cannot be taken for want of its surroundings, which costs the row no attempt; it is tried again"
                )
            } else {
                format!(
                    "backing off: attempt {} of {} of step {step} failed",
                    row.attempts, case.limits.max_attempts
                )
            };
            let unblock = row
                .unblock
                .clone()
                .unwrap_or_else(|| "Nothing to do yet: it is tried again by itself.".into());
            let unblock = format!("{unblock} To try at once: `gatewayzen retry {}`.{then}", row.name);
            ("backing_off", headline, details, unblock)
        }
        (None, None) => {
            details.push(detail("next try", moment(next, now)));
            (
                "waiting",
                format!("step {step} is tried again later"),
                details,
                format!("Nothing to do.{then}"),
            )
        }
    };
    let (situation, headline, mut details, unblock) = parts;
    details.extend(deadline(case));
    (situation, headline, details, unblock)
}

pub(super) fn attempts(case: &Case<'_>) -> (String, String) {
    detail(
        "attempts",
        format!("{} of {}", case.row.attempts, case.limits.max_attempts),
    )
}

pub(super) fn last_error(row: &Gatewayd, error: &str) -> (String, String) {
    let when = row
        .last_error_at
        .map(|at| format!(", at {}", moment(at, row.read_at)))
        .unwrap_or_default();
    detail("last error", format!("{error}{when}"))
}

/// Until when the row must have left its state.
pub(super) fn deadline(case: &Case<'_>) -> Option<(String, String)> {
    if case.halt.is_some() && !Halt::lets_work(case.row.state) {
        return Some(detail("deadline", "stands still while the fleet is halted"));
    }
    let by = case.row.clock_started_at + case.limits.deadline?;
    Some(detail(
        "deadline",
        format!("{}; then it is parked with a fault", moment(by, case.row.read_at)),
    ))
}

pub(super) fn lease(row: &Gatewayd) -> Vec<(String, String)> {
    let now = row.read_at;
    let mut details = vec![detail("in hand of", row.lease_owner.clone().unwrap_or_default())];
    if let Some(taken) = row.lease_taken_at {
        details.push(detail("taken", moment(taken, now)));
    }
    if let Some(until) = row.lease_until {
        details.push(detail(
            "lease",
            format!("until {} unless renewed", moment(until, now)),
        ));
    }
    details
}

/// What is known of the machine, which is what an operator looks at next.
fn machine(row: &Gatewayd) -> Vec<(String, String)> {
    let mut details = Vec::new();
    if let Some(instance) = &row.instance_id {
        let addresses: Vec<&str> = [&row.public_address, &row.private_address]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let at = if addresses.is_empty() {
            ", without an address".into()
        } else {
            format!(" at {}", addresses.join(", "))
        };
        details.push(detail("instance", format!("{instance}{at}")));
    }
    for (label, fact) in [
        ("host key", &row.host_key_fingerprint),
        ("certificate", &row.tls_fingerprint),
        ("wallet", &row.ripple_address),
        ("release", &row.release_in_place),
    ] {
        if let Some(fact) = fact {
            details.push(detail(label, fact));
        }
    }
    details
}

/// "3 jobs wait", for a queue.
pub(super) fn waiting(jobs: usize) -> String {
    match jobs {
        0 => "it is empty".into(),
        1 => "1 job waits".into(),
        _ => format!("{} wait", count(jobs, "job")),
    }
}

#[cfg(test)]
#[path = "explain_tests/mod.rs"]
mod tests;

//! A row that goes nowhere by itself: idle, on hold, or with a fault.

use gatewayzen_core::{Gatewayd, State, Step};

use super::explain::{Case, Parts, attempts, deadline, detail, last_error, lease};
use super::queue::QueueView;
use crate::text::moment;

/// The answer for a row that waits for a write of its state.
pub(super) fn idle(row: &Gatewayd) -> Parts {
    let name = &row.name;
    let (headline, unblock) = match row.state {
        State::New => (
            "new: nothing of it exists, and nothing happens until somebody writes state \"instance\"",
            format!(
                "`gatewayzen move {name} instance`, or UPDATE gatewayds SET state = 'instance' WHERE name = '{name}'"
            ),
        ),
        State::Live => (
            "live: it is where it should be, and there is nothing to do",
            format!("Nothing is blocked. It may be moved to {}.", targets(row.state)),
        ),
        State::Stopped => (
            "stopped: gatewayd does not run, and nothing happens until somebody writes its state",
            format!(
                "`gatewayzen move {name} start` starts it. It may be moved to {}.",
                targets(row.state)
            ),
        ),
        _ => (
            "terminated: its machine is gone; the row, its wallet and its history stay",
            format!("`gatewayzen move {name} instance` builds it anew, with the same wallet."),
        ),
    };
    (row.state.name(), headline.to_owned(), Vec::new(), unblock)
}

fn targets(state: State) -> String {
    let names: Vec<&str> = state.external_moves().iter().map(|state| state.name()).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.join(""),
    }
}

/// The answer for a row whose step waits for the end of the fleet's halt.
pub(super) fn halted(case: &Case<'_>, step: Step) -> Parts {
    let row = case.row;
    let mut details = Vec::new();
    if let Some(error) = &row.last_error {
        details.push(attempts(case));
        details.push(last_error(row, error));
    }
    details.extend(deadline(case));
    (
        "fleet_halted",
        format!("its step {step} waits, because the whole fleet is halted"),
        details,
        crate::halts::UNBLOCK.to_owned(),
    )
}

/// The answer for a row on hold.
pub(super) fn on_hold(case: &Case<'_>) -> Parts {
    let row = case.row;
    let now = row.read_at;
    let in_hand = row.lease_until.is_some_and(|until| until > now);
    let mut headline = format!("on hold in state {}", row.state);
    let mut details = vec![detail("reason", row.hold.clone().unwrap_or_default())];
    if let Some(since) = row.held_since {
        let by = case
            .history
            .iter()
            .rev()
            .find(|e| e.event == "held")
            .map(|e| format!(", by {}", e.by));
        details.push(detail(
            "held since",
            format!("{}{}", moment(since, now), by.unwrap_or_default()),
        ));
    }
    let mut unblock = format!("`gatewayzen resume {}` ends the hold.", row.name);
    if let Some(fault) = &row.fault {
        headline.push_str(", and it has a fault");
        details.push(detail("fault", fault));
        details.push(detail("its cure", row.unblock.clone().unwrap_or_default()));
        unblock.push_str(&format!(
            " The fault stays until it is tried again: `gatewayzen retry {}`.",
            row.name
        ));
    } else if in_hand {
        headline.push_str("; the step in hand ends first, and no other begins");
        details.extend(lease(row));
    } else if row.state.is_working() {
        headline.push_str("; its step waits for the end of the hold");
    }
    ("on_hold", headline, details, unblock)
}

/// The answer for a row with a fault.
pub(super) fn faulty(case: &Case<'_>) -> Parts {
    let row = case.row;
    let now = row.read_at;
    let name = &row.name;
    let parked = case.history.iter().rev().find(|e| e.event == "faulted");
    let since = parked.map(|e| e.at).or(row.last_error_at);
    let headline = format!("it has a fault in state {}, and waits for a person", row.state);
    let mut details = vec![detail("fault", row.fault.clone().unwrap_or_default())];
    if let Some(since) = since {
        let by = parked.map(|e| format!(", by {}", e.by)).unwrap_or_default();
        details.push(detail("parked", format!("{}{by}", moment(since, now))));
    }
    // Only a sweep parks an idle row, and there is no step to try again.
    if !row.state.is_working() {
        details.push(detail(
            "retry",
            format!("`gatewayzen retry {name}` only clears the fault; the next sweep looks again"),
        ));
        let unblock = row
            .unblock
            .clone()
            .unwrap_or_else(|| "See what became of its machine.".into());
        return ("fault", headline, details, unblock);
    }
    details.push(attempts(case));
    if let Some(error) = row
        .last_error
        .as_deref()
        .filter(|error| !row.fault.as_deref().is_some_and(|f| f.contains(*error)))
    {
        details.push(last_error(row, error));
    }
    details.push(detail("retry", format!("`gatewayzen retry {name}`")));
    details.push(detail(
        "or by SQL",
        format!(
            "UPDATE gatewayds SET state = '{}' WHERE name = '{name}'",
            row.state
        ),
    ));
    let entry = match case.queue {
        QueueView::Seen(seen) => match seen.failed_entry {
            Some(index) => format!("queue entry {index} of the failed jobs again, in any Resque tool"),
            None => "not possible: the list of failed jobs has no entry of this fault".into(),
        },
        QueueView::Unreachable(error) => format!("not known: {error}"),
        QueueView::NotAsked => "queue its entry of the failed jobs again, in any Resque tool".into(),
    };
    details.push(detail("or by Resque", entry));
    let unblock = row
        .unblock
        .clone()
        .unwrap_or_else(|| "Mend the cause, then retry.".into());
    ("fault", headline, details, unblock)
}

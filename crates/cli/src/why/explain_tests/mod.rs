//! One story for each situation that a row can be in.

use std::time::Duration;

use gatewayzen_core::repository::{Halt, HistoryEntry};
use gatewayzen_core::{Gatewayd, State};
use time::OffsetDateTime;
use time::macros::datetime;

use super::super::queue::{QueueView, Seen};
use super::{Answer, Case, Limits, explain};

mod due;
mod parked;
mod working;

const NOW: OffsetDateTime = datetime!(2026-11-24 03:00:00 UTC);

fn ago(seconds: u64) -> OffsetDateTime {
    NOW - Duration::from_secs(seconds)
}

fn after(seconds: u64) -> OffsetDateTime {
    NOW + Duration::from_secs(seconds)
}

fn row(state: State) -> Gatewayd {
    Gatewayd {
        generation: 7,
        since: ago(240),
        clock_started_at: ago(240),
        created_at: ago(900),
        ..Gatewayd::created(42, "acme", state, NOW)
    }
}

fn event(event: &str, by: &str, why: &str, seconds_ago: u64) -> HistoryEntry {
    HistoryEntry {
        at: ago(seconds_ago),
        event: event.into(),
        from_state: Some("instance".into()),
        to_state: "key".into(),
        generation: 7,
        by: by.into(),
        why: Some(why.into()),
    }
}

fn healthy() -> Seen {
    Seen {
        processes: 1,
        slots: 50,
        ..Seen::default()
    }
}

struct Story {
    row: Gatewayd,
    history: Vec<HistoryEntry>,
    due_at: Option<OffsetDateTime>,
    queue: QueueView,
    halt: Option<Halt>,
}

impl Story {
    fn of(row: Gatewayd) -> Story {
        Story {
            row,
            history: Vec::new(),
            due_at: Some(after(5)),
            queue: QueueView::Seen(healthy()),
            halt: None,
        }
    }

    fn seen(row: Gatewayd, seen: Seen) -> Story {
        Story {
            queue: QueueView::Seen(seen),
            ..Story::of(row)
        }
    }

    fn told(&self) -> Answer {
        let limits = Limits {
            max_attempts: 8,
            lease: Duration::from_secs(30),
            look_again: Duration::from_secs(10),
            period: Duration::from_secs(1),
            deadline: self.row.state.is_working().then_some(Duration::from_secs(900)),
        };
        explain(&Case {
            row: &self.row,
            history: &self.history,
            due_at: self.due_at,
            queue: &self.queue,
            halt: self.halt.as_ref(),
            limits: &limits,
        })
    }
}

/// The whole answer as one text, for looking into.
fn whole(answer: &Answer) -> String {
    let details: Vec<String> = answer
        .details
        .iter()
        .map(|(label, text)| format!("{label}: {text}"))
        .collect();
    format!(
        "{}\n{}\nunblock: {}",
        answer.headline,
        details.join("\n"),
        answer.unblock
    )
}

#[track_caller]
fn says(story: &Story, situation: &str, parts: &[&str]) -> Answer {
    let answer = story.told();
    let text = whole(&answer);
    assert_eq!(answer.situation, situation, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    assert!(
        !answer.headline.is_empty() && !answer.unblock.is_empty(),
        "{text}"
    );
    answer
}

fn leased() -> Gatewayd {
    let mut leased = row(State::Start);
    leased.attempts = 2;
    leased.lease_owner = Some("ssh-worker@h:1".into());
    leased.lease_taken_at = Some(ago(40));
    leased.lease_until = Some(after(25));
    leased
}

#[test]
fn a_row_says_who_moved_it_and_why() {
    let mut story = Story::of(leased());
    story.history = vec![event("moved", "billing", "customer 7 paid", 240)];
    says(&story, "in_hand", &["moved by: billing: customer 7 paid"]);
}

#[test]
fn a_row_of_a_halted_fleet_says_so_and_what_ends_it() {
    let halt = Halt {
        halted_at: ago(60),
        halted_by: "dispatcher@a:1".into(),
        why: "6 of 8 gatewayds got a fault within 900 s".into(),
    };
    let told = |row: Gatewayd| {
        Story {
            halt: Some(halt.clone()),
            ..Story::of(row)
        }
        .told()
    };
    let answer = told(row(State::Key));
    assert_eq!(answer.situation, "fleet_halted");
    assert!(
        answer.unblock.contains("gatewayzen resume --fleet --why"),
        "{answer:?}"
    );
    let details = format!("{:?}", answer.details);
    assert!(
        details.contains("6 of 8") && details.contains("stands still"),
        "{details}"
    );
    // What still goes on, and what waits for a person anyway, keeps its own answer and mentions the halt.
    assert_eq!(
        told(row(State::Terminate)).situation,
        told_without(State::Terminate)
    );
    let parked = Gatewayd {
        fault: Some("broken".into()),
        ..row(State::Key)
    };
    let answer = told(parked);
    assert_eq!(answer.situation, "fault");
    assert!(
        format!("{:?}", answer.details).contains("the fleet is halted"),
        "{answer:?}"
    );
}

fn told_without(state: State) -> &'static str {
    Story::of(row(state)).told().situation
}

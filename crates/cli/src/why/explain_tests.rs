//! One story for each situation that a row can be in.

use std::time::Duration;

use gatewayzen_core::repository::{Halt, HistoryEntry};
use gatewayzen_core::{Gatewayd, State};
use time::OffsetDateTime;
use time::macros::datetime;

use super::super::queue::{QueueView, Seen};
use super::{Answer, Case, Limits, explain};

const NOW: OffsetDateTime = datetime!(2026-11-24 03:00:00 UTC);

fn ago(seconds: u64) -> OffsetDateTime {
    NOW - Duration::from_secs(seconds)
}

fn after(seconds: u64) -> OffsetDateTime {
    NOW + Duration::from_secs(seconds)
}

fn row(state: State) -> Gatewayd {
    Gatewayd {
        id: 42,
        name: "acme".into(),
        state,
        release: None,
        ami: None,
        instance_type: None,
        owner_id: None,
        traceparent: None,
        hold: None,
        held_since: None,
        generation: 7,
        since: ago(240),
        clock_started_at: ago(240),
        public_address: None,
        private_address: None,
        instance_id: None,
        ripple_address: None,
        release_in_place: None,
        commit_in_place: None,
        host_key_fingerprint: None,
        tls_fingerprint: None,
        attempts: 0,
        next_try_at: None,
        waiting_for: None,
        last_error: None,
        last_error_at: None,
        fault: None,
        unblock: None,
        lease_number: 0,
        lease_owner: None,
        lease_taken_at: None,
        lease_until: None,
        created_at: ago(900),
        read_at: NOW,
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

#[test]
fn an_idle_row_says_what_moves_it() {
    let idle = |state| Story {
        queue: QueueView::NotAsked,
        due_at: None,
        ..Story::of(row(state))
    };
    says(
        &idle(State::New),
        "new",
        &[
            "nothing happens until",
            "gatewayzen move acme instance",
            "UPDATE gatewayds",
        ],
    );
    says(
        &idle(State::Live),
        "live",
        &[
            "stop, update or terminate",
            "live since 2026-11-24 02:56:00 UTC (4 min ago)",
        ],
    );
    says(
        &idle(State::Stopped),
        "stopped",
        &["gatewayzen move acme start", "start, update or terminate"],
    );
    says(
        &idle(State::Terminated),
        "terminated",
        &["builds it anew, with the same wallet"],
    );
}

#[test]
fn a_hold_says_who_why_and_since_when() {
    let mut held = row(State::Key);
    held.hold = Some("moving the subnet".into());
    held.held_since = Some(ago(120));
    let mut story = Story::of(held);
    story.history = vec![event("held", "alice", "moving the subnet", 120)];
    says(
        &story,
        "on_hold",
        &[
            "moving the subnet",
            "02:58:00 UTC (2 min ago), by alice",
            "gatewayzen resume acme",
            "its step waits for the end of the hold",
        ],
    );

    story.row.lease_until = Some(after(20));
    story.row.lease_owner = Some("ssh-worker@h:1".into());
    says(
        &story,
        "on_hold",
        &["the step in hand ends first", "ssh-worker@h:1"],
    );

    story.row.lease_until = None;
    story.row.fault = Some("no key came".into());
    says(
        &story,
        "on_hold",
        &["and it has a fault", "no key came", "resume acme", "retry acme"],
    );
}

fn faulty() -> Gatewayd {
    let mut faulty = row(State::Key);
    faulty.fault = Some("the host 10.0.0.4 has the host key SHA256:bad (after 1 of 8 attempts)".into());
    faulty.last_error = Some("the host 10.0.0.4 has the host key SHA256:bad".into());
    faulty.last_error_at = Some(ago(61));
    faulty.unblock = Some("See who answers at 10.0.0.4.".into());
    faulty.attempts = 1;
    faulty.host_key_fingerprint = Some("SHA256:good".into());
    faulty
}

#[test]
fn a_fault_says_what_when_after_how_many_attempts_and_the_three_ways_to_retry() {
    let mut story = Story::seen(
        faulty(),
        Seen {
            failed_entry: Some(3),
            ..healthy()
        },
    );
    story.due_at = None;
    story.history = vec![event("faulted", "ssh-worker@h:1", "…", 60)];
    let answer = says(
        &story,
        "fault",
        &[
            "SHA256:bad",
            "host key: SHA256:good",
            "02:59:00 UTC (1 min ago), by ssh-worker@h:1",
            "1 of 8",
            "unblock: See who answers at 10.0.0.4.",
            "`gatewayzen retry acme`",
            "UPDATE gatewayds SET state = 'key' WHERE name = 'acme'",
            "queue entry 3 of the failed jobs again",
        ],
    );
    assert!(
        !whole(&answer).contains("last error"),
        "the fault says it already: {answer:?}"
    );
    says(&Story::of(faulty()), "fault", &["no entry of this fault"]);
    let away = Story {
        queue: QueueView::Unreachable("Redis at r:1 is gone".into()),
        ..Story::of(faulty())
    };
    says(&away, "fault", &["not known: Redis at r:1 is gone"]);
}

#[test]
fn an_idle_row_whose_machine_is_gone_says_so_and_has_no_step_to_retry() {
    let mut row = row(State::Live);
    row.fault = Some("its machine i-1 is gone: EC2 says terminated".into());
    row.unblock = Some("To build it anew, write the state `terminate`.".into());
    let story = Story {
        queue: QueueView::NotAsked,
        due_at: None,
        ..Story::of(row)
    };
    let answer = says(
        &story,
        "fault",
        &[
            "in state live",
            "i-1 is gone",
            "only clears the fault",
            "unblock: To build it anew",
        ],
    );
    let text = whole(&answer);
    assert!(!text.contains("attempts") && !text.contains("Resque"), "{text}");
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
fn a_step_in_hand_says_whose_since_when_and_until_when() {
    let mut story = Story::of(leased());
    story.row.last_error = Some("port 5000 was closed".into());
    story.row.last_error_at = Some(ago(50));
    says(
        &story,
        "in_hand",
        &[
            "starting gatewayd (step startGatewayd, attempt 2 of 8)",
            "in hand of: ssh-worker@h:1",
            "taken: 2026-11-24 02:59:20 UTC (40 s ago)",
            "until 2026-11-24 03:00:25 UTC (in 25 s) unless renewed",
            "last error: port 5000 was closed, at 2026-11-24 02:59:10 UTC (50 s ago)",
            "deadline: 2026-11-24 03:11:00 UTC (in 11 min)",
        ],
    );
}

#[test]
fn a_worker_that_stopped_renewing_its_lease_is_named_with_the_moment_at_which_it_ends() {
    let mut story = Story::of(leased());
    story.row.lease_until = Some(after(9));
    says(
        &story,
        "worker_silent",
        &[
            "has not renewed the lease for 21 s",
            "ends at 03:00:09",
            "another ssh-worker",
        ],
    );
    story.queue = QueueView::Seen(Seen::default());
    says(
        &story,
        "worker_silent",
        &["But no ssh-worker listens on the queue startGatewayd."],
    );
}

#[test]
fn a_lease_just_taken_with_little_left_is_no_dead_worker() {
    // Tests and small fleets run with short leases.
    let mut story = Story::of(leased());
    story.row.lease_taken_at = Some(ago(1));
    story.row.lease_until = Some(after(1));
    says(&story, "in_hand", &[]);
}

#[test]
fn a_write_of_the_state_waits_for_the_step_that_it_superseded() {
    let mut story = Story::of(leased());
    story.row.state = State::Terminate;
    story.row.attempts = 0;
    says(
        &story,
        "superseded",
        &[
            "waiting for the step before the last write",
            "ssh-worker@h:1",
            "terminateEc2Instance begins when that step ends",
        ],
    );
}

#[test]
fn waiting_says_for_what_and_when_it_looks_next() {
    let mut story = Story::of(row(State::Instance));
    story.row.waiting_for = Some("EC2 to give i-0abc an address".into());
    story.row.next_try_at = Some(after(1));
    story.row.instance_id = Some("i-0abc".into());
    says(
        &story,
        "waiting",
        &[
            "waiting for EC2 to give i-0abc an address",
            "next look: 2026-11-24 03:00:01 UTC (in 1 s)",
            "i-0abc, without an address",
        ],
    );
    story.queue = QueueView::Seen(Seen::default());
    says(
        &story,
        "waiting",
        &["But no instance-worker listens on the queue initializeEc2Instance"],
    );
}

#[test]
fn backing_off_says_the_error_the_attempt_and_the_next_try() {
    let mut story = Story::of(row(State::Wallet));
    story.row.attempts = 3;
    story.row.last_error = Some("gatewayd answered 500".into());
    story.row.last_error_at = Some(ago(10));
    story.row.next_try_at = Some(after(40));
    story.row.unblock = Some("See its log.".into());
    story.row.tls_fingerprint = Some("ab12".into());
    says(
        &story,
        "backing_off",
        &[
            "attempt 3 of 8",
            "gatewayd answered 500, at 2026-11-24 02:59:50 UTC (10 s ago)",
            "next try: 2026-11-24 03:00:40 UTC (in 40 s)",
            "See its log. To try at once: `gatewayzen retry acme`.",
            "certificate: ab12",
        ],
    );
}

#[test]
fn a_failure_of_the_surroundings_is_told_from_one_of_the_row() {
    let mut story = Story::of(row(State::Instance));
    story.row.last_error = Some("EC2 refuses the credentials".into());
    story.row.last_error_at = Some(ago(2));
    story.row.next_try_at = Some(after(13));
    story.row.unblock = Some("Give the instance-worker other credentials.".into());
    says(
        &story,
        "backing_off",
        &[
            "costs the row no attempt",
            "0 of 8",
            "EC2 refuses the credentials",
        ],
    );
}

#[test]
fn a_due_step_that_nobody_takes_says_why_and_each_cause_has_its_own_answer() {
    let due = || row(State::Start);
    let silent = Some(("h.rs1:9+0:startGatewayd".to_owned(), Duration::from_secs(95)));
    let stories = [
        (
            Story::seen(
                due(),
                Seen {
                    waiting: 3,
                    ..Seen::default()
                },
            ),
            "no_worker",
            vec![
                "no ssh-worker listens on the queue startGatewayd",
                "3 jobs wait",
                "Start the service ssh-worker",
                "worker.queues",
            ],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    silent,
                    ..Seen::default()
                },
            ),
            "no_worker",
            vec![
                "the last one has been silent for 1 min 35 s",
                "The silent one is h.rs1:9+0:startGatewayd",
            ],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    paused: true,
                    ..healthy()
                },
            ),
            "paused",
            vec!["all workers are paused", "Delete the key `pause-all-workers`"],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    busy: 50,
                    waiting: 20,
                    looked_at: 20,
                    ahead: Some(12),
                    ..healthy()
                },
            ),
            "queued",
            vec![
                "12 jobs ahead of it",
                "50 worker slots (50 busy)",
                "every slot is busy",
                "worker.slots",
            ],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    waiting: 1,
                    looked_at: 1,
                    ahead: Some(0),
                    ..healthy()
                },
            ),
            "queued",
            vec!["0 jobs ahead of it", "a worker takes it in a moment", "it pauses"],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    waiting: 4000,
                    looked_at: 1000,
                    ..healthy()
                },
            ),
            "queued",
            vec!["not among the first 1000 of 4000"],
        ),
        (
            Story::seen(
                due(),
                Seen {
                    taken_by: Some("h.rs1:9+0:startGatewayd".into()),
                    ..healthy()
                },
            ),
            "taken",
            vec!["a worker has taken its job", "reaches Postgres"],
        ),
        (
            Story::seen(due(), healthy()),
            "on_its_way",
            vec!["pushes it again at 03:00:05", "every 10 s"],
        ),
        (
            Story {
                due_at: Some(ago(60)),
                ..Story::seen(due(), healthy())
            },
            "not_pushed",
            vec![
                "no dispatcher seems to run",
                "Start the service dispatcher",
                "(1 min ago), and has not",
            ],
        ),
        (
            Story {
                queue: QueueView::Unreachable("Redis at r:6379 cannot be used".into()),
                ..Story::of(due())
            },
            "redis_unreachable",
            vec!["Redis at r:6379 cannot be used", "no job is lost"],
        ),
    ];
    let mut headlines = std::collections::BTreeSet::new();
    for (story, situation, parts) in &stories {
        let answer = says(story, situation, parts);
        assert!(
            headlines.insert(answer.headline.clone()),
            "said twice: {}",
            answer.headline
        );
        says(
            story,
            situation,
            &["due since: 2026-11-24 02:56:00 UTC (4 min ago)", "deadline: "],
        );
    }
}

#[test]
fn a_worker_and_a_dispatcher_that_both_are_missing_are_both_named() {
    let mut story = Story::seen(row(State::Start), Seen::default());
    story.due_at = Some(ago(60));
    story.row.waiting_for = Some("port 5000 to answer".into());
    says(
        &story,
        "no_worker",
        &[
            "no ssh-worker listens",
            "No dispatcher seems to run either",
            "waited for: port 5000 to answer",
        ],
    );
}

#[test]
fn a_step_whose_worker_died_says_so_and_since_when_it_is_free_again() {
    let mut story = Story::of(leased());
    story.row.lease_until = Some(ago(5));
    says(
        &story,
        "on_its_way",
        &[
            "ssh-worker@h:1 had the step in hand and died; its lease ended 2026-11-24 02:59:55 UTC (5 s ago)",
            "due since: 2026-11-24 02:59:55 UTC (5 s ago)",
            "2 of 8",
        ],
    );
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

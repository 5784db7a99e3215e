//! Rows that nobody works on: idle, on hold, parked.

use super::*;

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

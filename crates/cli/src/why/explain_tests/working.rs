//! Rows that somebody has in hand, or that wait.

use super::*;

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

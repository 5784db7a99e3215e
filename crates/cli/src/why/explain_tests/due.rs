//! Rows that are due, and whom nobody takes.

use super::*;

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

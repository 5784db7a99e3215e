//! A step whose time has come and that no worker has taken: the queue tells why.

use std::time::Duration;

use gatewayzen_core::Step;

use super::explain::{Case, Parts, attempts, deadline, detail, doing, last_error, waiting};
use super::queue::{QueueView, Seen};
use crate::text::{between, clock, count, duration, moment};

/// The answer for a row whose step is due and in nobody's hand.
pub(super) fn due(case: &Case<'_>, step: Step) -> Parts {
    let row = case.row;
    let now = row.read_at;
    let queue = step.queue();
    let mut details = Vec::new();
    let since = row
        .clock_started_at
        .max(row.next_try_at.unwrap_or(row.clock_started_at))
        .min(now);
    let since = match row.lease_until {
        Some(until) => {
            let owner = row.lease_owner.as_deref().unwrap_or("a worker");
            details.push(detail(
                "lease",
                format!(
                    "{owner} had the step in hand and died; its lease ended {}",
                    moment(until, now)
                ),
            ));
            since.max(until)
        }
        None => since,
    };
    details.push(detail("due since", moment(since, now)));
    details.push(attempts(case));
    if let Some(waiting_for) = &row.waiting_for {
        details.push(detail("waited for", waiting_for));
    }
    if let Some(error) = &row.last_error {
        details.push(last_error(row, error));
    }
    details.extend(deadline(case));
    let what = doing(row, step);
    let (situation, headline, unblock) = match case.queue {
        QueueView::Unreachable(error) => {
            details.push(detail("Redis", error));
            (
                "redis_unreachable",
                format!(
                    "its step {step} ({what}) is due, and Redis, over which workers get it, cannot be reached from here"
                ),
                "Bring Redis back, or mend redis.url: no job is lost, the dispatcher pushes it again."
                    .to_owned(),
            )
        }
        QueueView::NotAsked => ("due", format!("its step {step} ({what}) is due"), String::new()),
        QueueView::Seen(seen) => {
            details.push(detail("queue", queue_line(queue, seen)));
            if let Some(worker) = &seen.taken_by {
                details.push(detail("job taken by", worker));
            }
            details.push(detail("dispatcher", dispatcher(case)));
            not_taken(case, step, seen)
        }
    };
    (situation, headline, details, unblock)
}

fn not_taken(case: &Case<'_>, step: Step, seen: &Seen) -> (&'static str, String, String) {
    let what = doing(case.row, step);
    let queue = step.queue();
    if let Some(nobody) = nobody(case, step) {
        let unblock = match (seen.paused, &seen.silent) {
            (true, _) => {
                "Delete the key `pause-all-workers` in Redis (in its namespace), and see who set it."
                    .to_owned()
            }
            (false, silent) => format!(
                "Start the service {worker}, or see that the one which runs has {queue} among its worker.queues \
                 and reaches Redis.{silent}",
                worker = step.worker(),
                silent = silent
                    .as_ref()
                    .map_or_else(String::new, |(id, _)| format!(" The silent one is {id}.")),
            ),
        };
        let too = if dispatcher_is_late(case) {
            " No dispatcher seems to run either: start one too."
        } else {
            ""
        };
        return (
            if seen.paused { "paused" } else { "no_worker" },
            format!("its step ({what}) is due, but {nobody}"),
            format!("{unblock}{too}"),
        );
    }
    let workers = format!("{} ({} busy)", count(seen.slots, "worker slot"), seen.busy);
    if let Some(ahead) = seen.ahead {
        return (
            "queued",
            format!(
                "its job is in the queue {queue} with {} ahead of it, for {workers}",
                count(ahead, "job")
            ),
            if seen.busy >= seen.slots {
                format!(
                    "Nothing is wrong: every slot is busy. To go faster, start another {} or raise worker.slots.",
                    step.worker()
                )
            } else {
                "Nothing to do: a worker takes it in a moment. If it does not, look into the worker's log: it pauses \
                 while its surroundings (credentials, account, Postgres) fail."
                    .to_owned()
            },
        );
    }
    if seen.taken_by.is_some() {
        return (
            "taken",
            format!("a worker has taken its job ({what}) and not yet its lease"),
            "Nothing to do; if it stays so, see in the worker's log whether it reaches Postgres.".to_owned(),
        );
    }
    if seen.waiting > seen.looked_at {
        return (
            "queued",
            format!(
                "its job is not among the first {} of {} in the queue {queue}, for {workers}",
                seen.looked_at, seen.waiting
            ),
            format!(
                "To go faster, start another {} or raise worker.slots.",
                step.worker()
            ),
        );
    }
    if dispatcher_is_late(case) {
        return (
            "not_pushed",
            format!(
                "its step ({what}) is due, and no job of it is in the queue {queue}: no dispatcher seems to run"
            ),
            "Start the service dispatcher, or see in its log whether it reaches Postgres and Redis."
                .to_owned(),
        );
    }
    (
        "on_its_way",
        format!("its step ({what}) is due, and its job is on its way to a worker, or was lost"),
        format!(
            "Nothing to do: if the job was lost, the dispatcher pushes it again{}.",
            case.due_at
                .map(|at| format!(" at {}", clock(at)))
                .unwrap_or_default()
        ),
    )
}

/// Why no worker would take a job of this step at all, as a clause; `None` where one would, or nobody knows.
pub(super) fn nobody(case: &Case<'_>, step: Step) -> Option<String> {
    let QueueView::Seen(seen) = case.queue else {
        return None;
    };
    if seen.paused {
        return Some("all workers are paused: the key `pause-all-workers` is set in Redis".into());
    }
    if seen.processes > 0 {
        return None;
    }
    let silent = seen
        .silent
        .as_ref()
        .map(|(_, silent)| format!(", the last one has been silent for {}", duration(*silent)));
    Some(format!(
        "no {} listens on the queue {}{}",
        step.worker(),
        step.queue(),
        silent.unwrap_or_default()
    ))
}

fn queue_line(queue: &str, seen: &Seen) -> String {
    let workers = match seen.processes {
        0 => "no worker".to_owned(),
        1 => format!(
            "1 worker process, {}, {} busy",
            count(seen.slots, "slot"),
            seen.busy
        ),
        many => format!(
            "{many} worker processes, {}, {} busy",
            count(seen.slots, "slot"),
            seen.busy
        ),
    };
    format!("{queue}: {}; {workers}", waiting(seen.waiting))
}

/// How long a due row may wait for a living dispatcher: it looks once a period.
pub(crate) fn patience_with_dispatcher(period: Duration) -> Duration {
    period * 3 + Duration::from_secs(2)
}

/// Whether the dispatcher should have looked at the row long since. It moves `due_at` on when it does.
fn dispatcher_is_late(case: &Case<'_>) -> bool {
    let patience = patience_with_dispatcher(case.limits.period);
    case.due_at
        .is_some_and(|due| between(due, case.row.read_at) > patience)
}

fn dispatcher(case: &Case<'_>) -> String {
    let now = case.row.read_at;
    match case.due_at {
        Some(due) if dispatcher_is_late(case) => {
            format!(
                "should have looked at the row {}, and has not: is one running?",
                moment(due, now)
            )
        }
        Some(due) if due > now => format!(
            "looks at the row again {} (every {} while its step is not taken)",
            moment(due, now),
            duration(case.limits.look_again)
        ),
        Some(_) => "looks at the row about now".into(),
        None => "does not look at the row".into(),
    }
}

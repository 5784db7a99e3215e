//! From what a step returned to what is written: limits, deadlines and backoff in one place.

use std::time::Duration;

use gatewayzen_core::repository::Outcome;
use gatewayzen_core::step::Problem;
use gatewayzen_core::{Gatewayd, Next, StepError};

use crate::RunnerSettings;

/// What to write for a step's result; `None` when the row was overtaken.
pub(crate) fn outcome(
    settings: &RunnerSettings,
    row: &Gatewayd,
    result: Result<Next, StepError>,
    jitter: f64,
) -> Outcome {
    match result {
        Ok(Next::Advance { facts, done }) => match row.state.after_step() {
            Some(to) => Outcome::Advance { to, facts, why: done },
            // A step is only taken in a working state, so there is a state after it.
            None => Outcome::Release,
        },
        Ok(Next::WaitUntil { after, waiting_for }) => match past_deadline(settings, row) {
            Some(deadline) => Outcome::Park {
                fault: format!(
                    "state \"{}\" was not left within its deadline of {} s: it waited for {waiting_for}",
                    row.state,
                    deadline.as_secs()
                ),
                unblock: "See why that does not come, then retry.".into(),
            },
            None => Outcome::Wait { after, waiting_for },
        },
        Ok(Next::AwaitTurn { after, waiting_for }) => Outcome::AwaitTurn { after, waiting_for },
        Err(StepError::Transient(problem)) => again(settings, row, problem, jitter),
        Err(StepError::Permanent(problem)) => Outcome::Park {
            fault: problem.sentence,
            unblock: unblock(problem.unblock, "Mend the cause, then retry."),
        },
        Err(StepError::Environment(problem)) => Outcome::Pause {
            after: settings.worker.pause,
            error: problem.sentence,
            unblock: told(
                &problem.unblock,
                "Mend the cause.",
                "The row goes on by itself while its deadline lasts.",
            ),
        },
        Err(StepError::Overtaken) => Outcome::Release,
    }
}

fn again(settings: &RunnerSettings, row: &Gatewayd, problem: Problem, jitter: f64) -> Outcome {
    let attempt = u32::try_from(row.attempts).unwrap_or(1).max(1);
    let limit = settings.worker.max_attempts;
    let deadline = past_deadline(settings, row);
    if attempt >= limit || deadline.is_some() {
        let why = match deadline {
            Some(deadline) => format!("past the deadline of {} s", deadline.as_secs()),
            None => format!("after {attempt} of {limit} attempts"),
        };
        return Outcome::Park {
            fault: format!("{} ({why})", problem.sentence),
            unblock: told(&problem.unblock, "Mend the cause.", "Then retry."),
        };
    }
    Outcome::BackOff {
        after: backoff(
            settings.worker.backoff_first,
            settings.worker.backoff_longest,
            attempt,
            jitter,
        ),
        error: problem.sentence,
        unblock: told(
            &problem.unblock,
            "Nothing to do yet.",
            "It is tried again by itself.",
        ),
    }
}

/// An instruction, and what follows it: only here is it known whether the row goes on by itself.
fn told(instruction: &str, default: &str, then: &str) -> String {
    let instruction = if instruction.is_empty() {
        default
    } else {
        instruction
    };
    format!("{instruction} {then}")
}

fn unblock(given: String, default: &str) -> String {
    if given.is_empty() {
        default.to_owned()
    } else {
        given
    }
}

/// Doubles with each attempt up to the longest; `jitter`, from 0 to 1, takes away up to half, so that rows that
/// failed together do not come back together.
fn backoff(first: Duration, longest: Duration, attempt: u32, jitter: f64) -> Duration {
    let doubled = first.saturating_mul(2u32.saturating_pow(attempt.saturating_sub(1).min(20)));
    doubled.min(longest).mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

fn past_deadline(settings: &RunnerSettings, row: &Gatewayd) -> Option<Duration> {
    let deadline = settings.deadlines.of(row.state)?;
    (row.read_at - row.clock_started_at > deadline).then_some(deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_the_longest_and_jitter_takes_up_to_half_of_it() {
        let (first, longest) = (Duration::from_secs(2), Duration::from_secs(60));
        let whole = |attempt| backoff(first, longest, attempt, 0.0).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(whole), [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!([0, 21, u32::MAX].map(whole), [2, 60, 60]);
        assert_eq!(backoff(first, longest, 3, 1.0), Duration::from_secs(4));
        assert_eq!(backoff(first, longest, 3, 0.5), Duration::from_secs(6));
        // Whatever the dice show, it neither vanishes nor grows.
        assert_eq!(backoff(first, longest, 3, 7.0), Duration::from_secs(4));
        assert_eq!(backoff(first, longest, 3, -7.0), Duration::from_secs(8));
    }
}

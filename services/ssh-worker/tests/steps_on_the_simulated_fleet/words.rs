//! What a failed step tells an operator.

use gatewayzen_core::StepError;

/// What a failed step tells an operator, if it is of this kind.
#[track_caller]
pub(crate) fn transient(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Transient(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not transient: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn permanent(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not permanent: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

pub(crate) fn some(command: &str) -> Option<String> {
    Some(command.to_owned())
}

//! What EC2's errors mean.

use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use gatewayzen_core::StepError;

/// The longest text of EC2 that is repeated to operators.
const MESSAGE_MAX: usize = 300;
/// The longest code of an error.
const CODE_MAX: usize = 100;

/// What a failed call means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Who asks is not known, may not, or has none to show: nobody's call will do better for now.
    Credentials,
    /// Who asks may not do this to these resources: one AMI, type or subnet may be forbidden, or not subscribed to, and
    /// every other row's call be fine.
    NotAllowed,
    /// The account asks too often.
    Throttled,
    /// There is no answer, or one that leaves open what was done.
    Unanswered,
    /// EC2 has no such machine to give just now, or the account may have no more.
    Capacity,
    /// The instance id is not known, or not yet.
    NoSuchInstance,
    /// The client token was used with another request.
    TokenMismatch,
    /// The call itself is wrong, and will be as long as it stays the same.
    Refused,
}

/// A call to EC2 that failed. It can be given to all the steps that waited for the call.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What it means.
    pub meaning: Meaning,
    /// The call: `RunInstances`.
    pub call: &'static str,
    /// EC2's error code; empty where EC2 did not answer.
    pub code: String,
    /// EC2's own words, or why there are none.
    pub message: String,
}

impl Failure {
    /// Reads what the SDK says.
    pub fn new<E>(call: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let SdkError::ServiceError(service) = error
            && let Some(code) = service.err().code()
        {
            let message = service.err().message().unwrap_or_default();
            let meaning = match meaning(code) {
                // A refusal that is not in the table, told as EC2's own failure: it may have carried the call out.
                Meaning::Refused if service.raw().status().is_server_error() => Meaning::Unanswered,
                // Only a launch asks for resources that may be forbidden to one row; any other call is the same for all.
                Meaning::NotAllowed if call != "RunInstances" => Meaning::Credentials,
                known => known,
            };
            return Failure {
                meaning,
                call,
                code: code_of(code),
                message: shortened(message),
            };
        }
        let message = chain(error);
        // Where no credentials are found, the SDK sends nothing and gives the reason as a failure to send.
        let no_credentials = matches!(error, SdkError::DispatchFailure(failure) if failure.is_other() || failure.is_user())
            && message.to_ascii_lowercase().contains("credential");
        let meaning = if no_credentials {
            Meaning::Credentials
        } else {
            Meaning::Unanswered
        };
        Failure {
            meaning,
            call,
            code: String::new(),
            message: shortened(&message),
        }
    }

    /// A call that was given up by this side.
    pub fn unanswered(call: &'static str, why: &str) -> Failure {
        Failure {
            meaning: Meaning::Unanswered,
            call,
            code: String::new(),
            message: why.to_owned(),
        }
    }

    /// What happened, for operators.
    pub fn sentence(&self) -> String {
        let Failure {
            call, code, message, ..
        } = self;
        match (self.meaning, code.as_str()) {
            (Meaning::Credentials, "") => {
                format!("{call} was not sent: the instance-worker finds no AWS credentials")
            }
            (_, "") => format!("EC2 did not answer {call}: {message}"),
            (_, code) => format!("EC2 refused {call}: {code}: {message}"),
        }
    }

    /// EC2's code, or that there is none, in one word for traces.
    pub fn kind(&self) -> &str {
        match (self.meaning, self.code.as_str()) {
            (Meaning::Credentials, "") => "not_sent",
            (_, "") => "no_answer",
            (_, code) => code,
        }
    }

    /// As the end of a step that did not expect it.
    pub fn step_error(&self) -> StepError {
        let sentence = self.sentence();
        let error = match self.meaning {
            Meaning::Credentials => StepError::environment(
                sentence,
                "Give the instance-worker AWS credentials that may do this (and see that its clock is right); \
                 `gatewayzen doctor` tries them.",
            ),
            Meaning::NotAllowed => StepError::transient(
                sentence,
                "Allow the instance-worker's AWS identity this call on what the row asks for (its AMI, instance type and \
                 subnet), or subscribe the account to that AMI.",
            ),
            Meaning::Throttled => StepError::environment(
                sentence,
                "Should it last, ask AWS for a \
                 higher quota.",
            ),
            Meaning::Unanswered => {
                StepError::transient(sentence, "See that EC2 can be reached from the instance-worker.")
            }
            Meaning::Capacity => StepError::transient(
                sentence,
                "Should it last, set another ec2.instance_type or ec2.subnet, or ask AWS \
                 for a higher quota.",
            ),
            Meaning::NoSuchInstance => {
                StepError::transient(sentence, "Should it last, see that ec2.region is the instance's.")
            }
            Meaning::TokenMismatch | Meaning::Refused => {
                StepError::permanent(sentence, "Mend what EC2 names, then retry.")
            }
        };
        error.with_context(&self.message)
    }
}

/// The table of EC2's codes.
fn meaning(code: &str) -> Meaning {
    match code {
        "AuthFailure"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "PendingVerification"
        | "Blocked"
        | "AccessDenied"
        | "AccessDeniedException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId" => Meaning::Credentials,
        "UnauthorizedOperation" | "OptInRequired" => Meaning::NotAllowed,
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "RequestThrottled" => {
            Meaning::Throttled
        }
        "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "ServerInternal"
        | "Unavailable"
        | "ServiceUnavailable"
        | "RequestTimeout" => Meaning::Unanswered,
        "InvalidInstanceID.NotFound" => Meaning::NoSuchInstance,
        "IdempotentParameterMismatch" => Meaning::TokenMismatch,
        code if code.starts_with("Insufficient") || code.ends_with("LimitExceeded") => Meaning::Capacity,
        _ => Meaning::Refused,
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

/// EC2's codes are words like `InvalidAMIID.NotFound`; what else comes is no code, and goes to no log as it is.
fn code_of(text: &str) -> String {
    let mut code = shortened(text);
    code.retain(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    code.truncate(CODE_MAX);
    if code.is_empty() { "(no code)".into() } else { code }
}

/// One line of bounded length, without control characters and those that reorder or hide text: whoever answers for EC2
/// may send anything.
pub(crate) fn shortened(text: &str) -> String {
    let harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    // Only the beginning is kept, and a hostile text may be long.
    let text: String = text
        .chars()
        .take(16 * MESSAGE_MAX)
        .map(|c| if harmless(c) { c } else { ' ' })
        .collect();
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MESSAGE_MAX) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_meaning() {
        for (code, wanted) in [
            ("AuthFailure", Meaning::Credentials),
            ("UnauthorizedOperation", Meaning::NotAllowed),
            ("InvalidClientTokenId", Meaning::Credentials),
            ("ExpiredToken", Meaning::Credentials),
            ("OptInRequired", Meaning::NotAllowed),
            ("RequestLimitExceeded", Meaning::Throttled),
            ("InternalError", Meaning::Unanswered),
            ("Unavailable", Meaning::Unanswered),
            ("InsufficientInstanceCapacity", Meaning::Capacity),
            ("InsufficientFreeAddressesInSubnet", Meaning::Capacity),
            ("InstanceLimitExceeded", Meaning::Capacity),
            ("VcpuLimitExceeded", Meaning::Capacity),
            ("InvalidInstanceID.NotFound", Meaning::NoSuchInstance),
            ("InvalidInstanceID.Malformed", Meaning::Refused),
            ("IdempotentParameterMismatch", Meaning::TokenMismatch),
            ("InvalidAMIID.NotFound", Meaning::Refused),
            ("InvalidSubnetID.NotFound", Meaning::Refused),
            ("InvalidGroup.NotFound", Meaning::Refused),
            ("InvalidKeyPair.NotFound", Meaning::Refused),
            ("InvalidParameterValue", Meaning::Refused),
            ("Unsupported", Meaning::Refused),
        ] {
            assert_eq!(meaning(code), wanted, "{code}");
        }
    }

    #[test]
    fn bad_credentials_and_throttling_are_no_rows_failure() {
        for meaning in [Meaning::Credentials, Meaning::Throttled] {
            let failure = Failure {
                meaning,
                call: "RunInstances",
                code: "X".into(),
                message: "y".into(),
            };
            assert!(matches!(failure.step_error(), StepError::Environment(_)));
        }
    }

    #[test]
    fn what_is_forbidden_to_one_row_is_no_trouble_of_the_others() {
        let failure = Failure {
            meaning: meaning("UnauthorizedOperation"),
            call: "RunInstances",
            code: "UnauthorizedOperation".into(),
            message: "y".into(),
        };
        assert!(matches!(failure.step_error(), StepError::Transient(_)));
    }

    #[test]
    fn a_message_is_one_line_and_cut_at_a_character() {
        assert_eq!(shortened("two\n  lines"), "two lines");
        let cut = shortened(&"ä".repeat(1000));
        assert_eq!(cut.chars().count(), MESSAGE_MAX + 1);
    }
}

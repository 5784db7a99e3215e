//! What operators are told of a launch attempt: what it waits for, why it failed, and what to mend.

use gatewayzen_core::StepError;
use gatewayzen_core::repository::LaunchAttempt;
use gatewayzen_core::seal::OpenError;
use time::OffsetDateTime;

use crate::attempt::stored_request;
use crate::errors::{Failure, Meaning};
use crate::steps::stamp;

/// What an attempt asks for, for a sentence.
pub(crate) fn asked_for(attempt: &LaunchAttempt) -> String {
    match stored_request(attempt) {
        Ok(request) => request.summary(),
        Err(_) => "what a newer version asked for".to_owned(),
    }
}

/// What is waited for while it cannot be known what an attempt launched.
pub(crate) fn certainty(attempt: &LaunchAttempt, until: OffsetDateTime, now: OffsetDateTime) -> String {
    // Once the time to send is over, nobody sends it again.
    let newer = stored_request(attempt).is_err() && now < attempt.send_until;
    let sender = if newer {
        "; a newer version of the instance-worker stored its request, and alone may send it again"
    } else {
        ""
    };
    format!(
        "certainty about launch attempt {}, which EC2 never answered and may carry out until {}{sender}",
        attempt.id,
        stamp(until)
    )
}

/// Why a launch did not come about, with the setting to mend. `open_until`: how long the attempt stays in force.
pub(crate) fn launch_error(
    attempt: &LaunchAttempt,
    failure: &Failure,
    open_until: Option<OffsetDateTime>,
) -> StepError {
    let sentence = format!("launching {} failed: {}", asked_for(attempt), failure.sentence());
    let stays = open_until.map(|until| {
        format!(
            " Attempt {} may have launched a machine before, and stays in force until {}.",
            attempt.id,
            stamp(until)
        )
    });
    let stays = stays.unwrap_or_default();
    match failure.meaning {
        Meaning::Refused => StepError::permanent(sentence, format!("{}{stays}", mend(&failure.code))),
        Meaning::TokenMismatch => StepError::permanent(
            sentence,
            format!(
                "Do not retry blindly: EC2 knows the client token {} with another request than the one stored. Look in \
                 EC2 for its instance; to end that and build anew, write the state `terminate`.{stays}",
                attempt.client_token
            ),
        ),
        _ => match failure.step_error() {
            StepError::Transient(problem) => StepError::transient(sentence, problem.unblock),
            StepError::Environment(problem) => StepError::environment(sentence, problem.unblock),
            other => other,
        }
        .with_context(&failure.message),
    }
}

/// The setting behind an error of EC2.
pub(crate) fn mend(code: &str) -> &'static str {
    const SETTINGS: [(&str, &str); 9] = [
        (
            "InvalidAMIID",
            "Set ec2.ami (or the row's `ami`, or its release's in ec2.releases) to an AMI of this region that the account \
             may use, then retry.",
        ),
        (
            "InvalidKMSKey",
            "Set ec2.volume_key to a KMS key of this region that the instance-worker's AWS identity may use (or empty, for \
             the account's own), then retry.",
        ),
        (
            "InvalidSubnet",
            "Set ec2.subnet to a subnet of this region, then retry.",
        ),
        (
            "InvalidGroup",
            "Set ec2.security_groups to groups of the subnet's network, then retry.",
        ),
        (
            "InvalidSecurityGroup",
            "Set ec2.security_groups to groups of the subnet's network, then retry.",
        ),
        (
            "InvalidKeyPair",
            "Set ec2.key_name to a key pair of this region, then retry.",
        ),
        (
            "InvalidIamInstanceProfile",
            "Set ec2.instance_profile to a profile of this account, then retry.",
        ),
        (
            "InvalidInstanceType",
            "Set ec2.instance_type (or the row's `instance_type`) to one of EC2's, then retry.",
        ),
        (
            "Unsupported",
            "Set an ec2.instance_type that the AMI and the subnet's zone can have, then retry.",
        ),
    ];
    let known = SETTINGS.iter().find(|(prefix, _)| code.starts_with(prefix));
    known.map_or(
        "Mend the setting under [ec2] that EC2 names, then retry.",
        |(_, mend)| mend,
    )
}

/// What a launch is made of could not be made on this machine.
pub(crate) fn not_made(error: impl std::fmt::Display) -> StepError {
    StepError::environment(
        format!("no launch could be prepared: {error}"),
        "See why this machine has no random source, or install another build.",
    )
}

/// Only of an attempt whose instance is known, which nobody sends again.
pub(crate) fn forgotten(attempt: &LaunchAttempt) -> StepError {
    StepError::permanent(
        format!(
            "the user data of launch attempt {} was erased, so it cannot be sent again",
            attempt.id
        ),
        "Write the state `terminate`, and then `instance`.",
    )
}

/// Why the private part of a request stays closed.
pub(crate) fn not_opened(attempt: &LaunchAttempt, error: &OpenError) -> StepError {
    let sentence = format!(
        "the user data of launch attempt {} cannot be opened: {error}",
        attempt.id
    );
    match error {
        // Other workers may have the key, and this one may open what is sealed for other rows: so this row alone backs off.
        OpenError::UnknownKey { .. } => StepError::transient(
            sentence,
            "Give this worker the key ring of the whole fleet (secrets.key_file or secrets.keys).",
        ),
        _ => StepError::permanent(
            sentence,
            "Restore the table launch_attempts from a backup; then retry.",
        ),
    }
}

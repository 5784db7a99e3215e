//! How a command ends when it does not end well.

use std::process::ExitCode;

use gatewayzen_bootstrap::settings::ConfigError;
use gatewayzen_core::repository::{Refused, RepositoryError};

/// Why a command failed. Its text is one sentence for standard error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for was refused, or did not work.
    #[error("{0}")]
    Failed(String),
    /// Everything was said already.
    #[error("")]
    Said(Ended),
    #[error("{0}")]
    Configuration(#[from] ConfigError),
    /// Postgres or Redis is not there.
    #[error("{0}")]
    Unavailable(String),
}

/// Ends that have an exit code of their own, or have told their story on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Failed,
    Fault,
    Timeout,
    Interrupted,
}

impl Failure {
    pub(crate) fn no_such_name(name: &str) -> Failure {
        Failure::Failed(format!("there is no gatewayd \"{name}\"; see `gatewayzen list`"))
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) | Failure::Said(Ended::Failed) => 1,
            Failure::Said(Ended::Fault) => 3,
            Failure::Said(Ended::Timeout) => 4,
            Failure::Configuration(_) => 64,
            Failure::Unavailable(_) => 69,
            Failure::Said(Ended::Interrupted) => 130,
        })
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        let text = error.to_string();
        if error.is_outage() {
            return Failure::Unavailable(format!("{text}; is it running, and is postgres.url right?"));
        }
        match error {
            RepositoryError::BadUrl(_) => Failure::Configuration(ConfigError {
                key: "postgres.url".into(),
                origin: String::new(),
                problem: text,
            }),
            _ if text.contains("permission denied") => Failure::Failed(format!(
                "{text}: the login in postgres.url may not do this; use one with the role gatewayzen_operator"
            )),
            _ if text.contains("does not exist") && text.contains("relation") => {
                Failure::Failed("the database has no GatewayZen schema: run `gatewayzen migrate`".into())
            }
            _ => Failure::Failed(text),
        }
    }
}

impl From<resque::Error> for Failure {
    fn from(error: resque::Error) -> Self {
        match error {
            resque::Error::Config(problem) => Failure::Configuration(ConfigError {
                key: "redis".into(),
                origin: String::new(),
                problem,
            }),
            error if error.is_outage() => Failure::Unavailable(error.to_string()),
            error => Failure::Failed(error.to_string()),
        }
    }
}

/// What a refusal of Postgres means. The guard's own sentences are good as they are; a constraint only has its
/// name to tell.
pub(crate) fn refusal(refused: &Refused) -> String {
    let meanings = [
        ("gatewayds_name_key", "there is a gatewayd of that name already"),
        (
            "name_is_a_dns_label",
            "a name is 1 to 63 lower-case letters, digits and dashes, and neither begins nor ends with a dash",
        ),
        (
            "release_is_a_git_tag",
            "a release is a git tag: letters, digits and . _ + -, beginning with a letter or digit, at most 100",
        ),
        ("ami_is_an_image_id", "an AMI looks like ami-0123456789abcdef0"),
        (
            "instance_type_is_one_of_ec2s",
            "an instance type looks like t3.small",
        ),
        (
            "owner_id_is_plain",
            "an owner is letters, digits and . _ : @ -, beginning with a letter or digit, at most 200",
        ),
        (
            "gatewayds_hold_check",
            "the reason of a hold has 1 to 500 characters",
        ),
        (
            "halt_has_a_reason",
            "the reason of a halt has 1 to 500 characters",
        ),
        (
            "resume_has_a_reason",
            "the reason for which the fleet goes on has 1 to 500 characters",
        ),
        (
            "gatewayds_changed_why_check",
            "a reason has at most 500 characters",
        ),
        (
            "audit_has_a_reason",
            "the audit wants a reason of 1 to 500 characters",
        ),
        ("person_is_short", "the name of a person has 1 to 200 characters"),
        ("sweeps_why", "a reason has at most 500 characters"),
        ("restores_why", "say what happened in 1 to 500 characters"),
    ];
    meanings
        .into_iter()
        .find(|(constraint, _)| refused.0.contains(constraint))
        .map_or_else(|| refused.0.clone(), |(_, meaning)| meaning.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_is_told_by_what_it_wants_and_a_sentence_is_kept() {
        let constraint = Refused(
            r#"new row for relation "gatewayds" violates check constraint "ami_is_an_image_id""#.into(),
        );
        assert_eq!(refusal(&constraint), "an AMI looks like ami-0123456789abcdef0");
        let sentence = Refused(r#"gatewayd "acme" is in state "new" and cannot be moved to "live""#.into());
        assert_eq!(refusal(&sentence), sentence.0);
    }
}

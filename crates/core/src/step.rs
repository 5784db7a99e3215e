//! What a step returns: the vocabulary between a worker's steps and the runner that takes them.

use std::time::Duration;

use serde::Serialize;

use crate::repository::{LeaseCheck, RepositoryError};

/// What a step found out about its gatewayd, to be written to the row. `None` leaves a column alone.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The address by which the world reaches the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_address: Option<String>,
    /// The address inside the network of the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_address: Option<String>,
    /// The cold wallet's address on the ledger: that of the wallet that is kept for the row, or Postgres refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ripple_address: Option<String>,
    /// gatewayd's version as its host has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_in_place: Option<String>,
    /// gatewayd's commit as its host has it; empty where the host has no git checkout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_in_place: Option<String>,
    /// SHA-256 of the SSH host key, as OpenSSH prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_key_fingerprint: Option<String>,
    /// SHA-256 of the host's TLS certificate in DER, in lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<String>,
}

/// How a step ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The step is done: the row moves on to the state that follows.
    Advance {
        /// Written to the row together with the move.
        facts: Facts,
        /// A short sentence for the history: what was done.
        done: String,
    },
    /// Nothing is wrong, it is only not yet so: look again after `after`.
    WaitUntil {
        /// How long from now.
        after: Duration,
        /// What is waited for, to follow "waiting for": "EC2 to give i-0abc an address".
        waiting_for: String,
    },
    /// A limit of the whole fleet is reached, and nothing was begun: look again after `after`. The state's deadline counts
    /// anew from here; so this is only for a limit whose holders have deadlines of their own.
    AwaitTurn {
        /// How long from now.
        after: Duration,
        /// What is waited for, to follow "waiting for".
        waiting_for: String,
    },
}

/// How a step failed.
///
/// The sentence is public: operators read it in the row, and it says what happened with its figures and what to
/// do. The context is for the log only. Neither holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// May succeed later: again after a backoff, up to the limit of attempts.
    #[error("{}", .0.sentence)]
    Transient(Problem),
    /// Will not mend itself: the row is parked with a fault.
    #[error("{}", .0.sentence)]
    Permanent(Problem),
    /// Not this row's failure (credentials, account, Postgres): the worker pauses and the row loses no attempt.
    #[error("{}", .0.sentence)]
    Environment(Problem),
    /// The row is not this worker's any more: somebody wrote its state, or the lease was lost. Nothing is written.
    #[error("the row was overtaken by a write of its state, or its lease was lost")]
    Overtaken,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What happened, for operators.
    pub sentence: String,
    /// What unblocks the row, for operators: an instruction. Empty: retry.
    pub unblock: String,
    /// What only the log gets.
    pub context: String,
}

impl Problem {
    fn new(sentence: impl Into<String>, unblock: impl Into<String>) -> Self {
        Problem {
            sentence: sentence.into(),
            unblock: unblock.into(),
            context: String::new(),
        }
    }
}

impl StepError {
    /// A failure that may mend itself.
    pub fn transient(sentence: impl Into<String>, unblock: impl Into<String>) -> Self {
        StepError::Transient(Problem::new(sentence, unblock))
    }

    /// A failure at which a person must look.
    pub fn permanent(sentence: impl Into<String>, unblock: impl Into<String>) -> Self {
        StepError::Permanent(Problem::new(sentence, unblock))
    }

    /// A failure of the worker's surroundings.
    pub fn environment(sentence: impl Into<String>, unblock: impl Into<String>) -> Self {
        StepError::Environment(Problem::new(sentence, unblock))
    }

    /// Adds what only the log gets.
    #[must_use]
    pub fn with_context(mut self, context: impl std::fmt::Display) -> Self {
        match &mut self {
            StepError::Transient(p) | StepError::Permanent(p) | StepError::Environment(p) => {
                p.context = context.to_string();
            }
            StepError::Overtaken => {}
        }
        self
    }
}

/// For a statement that failed in mid-step: an outage is nobody's failure, anything else is a bug or a mismatch
/// of versions, which a later attempt may find mended.
impl From<RepositoryError> for StepError {
    fn from(error: RepositoryError) -> Self {
        if error.is_locked() {
            // Guards against the worker that pauses for all rows because somebody's open transaction has this one.
            StepError::transient(
                "somebody's open transaction has this row, so that the step could not write to it",
                "Find that transaction (pg_stat_activity), and have it end.",
            )
        } else if error.is_outage() {
            StepError::environment(
                format!("Postgres did not answer in mid-step: {error}"),
                "Nothing to do for this row: it goes on when Postgres is back.",
            )
        } else {
            StepError::transient(
                format!("Postgres refused a statement in mid-step: {error}"),
                "Run `gatewayzen doctor`: the schema and this version may not fit.",
            )
        }
    }
}

impl LeaseCheck {
    /// Goes on only while the row is still this worker's.
    pub fn or_overtaken(self) -> Result<(), StepError> {
        match self {
            LeaseCheck::Held => Ok(()),
            LeaseCheck::Superseded | LeaseCheck::Lost => Err(StepError::Overtaken),
        }
    }
}

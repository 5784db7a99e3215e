//! Taking a row, keeping it, and writing how its step ended.

use std::time::Duration;

use uuid::Uuid;

use super::{Repository, RepositoryError, Result, interval};
use crate::crash;
use crate::state::State;
use crate::step::Facts;

/// A worker's right to act on one row, in one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `gatewayds.id`.
    pub id: i64,
    /// The generation that was taken.
    pub generation: i64,
    /// Tells this lease from every other, the same worker's included.
    pub token: Uuid,
    /// Grows with each lease of the row: by it a host tells a worker of the past from the one that has the row now.
    pub number: i64,
}

/// What became of the wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was taken.
    Taken(Lease),
    /// There is no such row.
    NoSuchRow,
    /// The row is in another state or generation: the job is of the past.
    Stale,
    /// An operator holds the row.
    Held,
    /// The whole fleet is halted.
    Halted,
    /// Another worker has it, for at least this long.
    Busy(Duration),
    /// The row backs off or waits, for this long.
    NotYet(Duration),
    /// The row has a fault, and this job does not say that somebody wants it tried again.
    Parked,
    /// The step was begun as often as it may be and never ended: the row is now parked, in this generation.
    Exhausted(i64),
}

/// Whether a lease still stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseCheck {
    /// The row is this worker's.
    Held,
    /// Somebody wrote the row's state: the step is of no use any more. The lease must be given back.
    Superseded,
    /// It expired: another worker may have the row.
    Lost,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// On to the next state.
    Advance {
        /// The state that follows.
        to: State,
        /// Written with it.
        facts: Facts,
        /// For the history.
        why: String,
    },
    /// Again after a while; nothing is wrong.
    Wait {
        /// How long.
        after: Duration,
        /// What for.
        waiting_for: String,
    },
    /// Again after a while: a limit of the whole fleet is reached. The state's deadline counts anew.
    AwaitTurn {
        /// How long.
        after: Duration,
        /// What for.
        waiting_for: String,
    },
    /// Again after a while; it failed.
    BackOff {
        /// How long.
        after: Duration,
        /// The public sentence.
        error: String,
        /// What unblocks it.
        unblock: String,
    },
    /// Again after a while; the worker's surroundings failed. Costs no attempt.
    Pause {
        /// How long.
        after: Duration,
        /// The public sentence.
        error: String,
        /// What unblocks it.
        unblock: String,
    },
    /// Parked with a fault.
    Park {
        /// The public sentence.
        fault: String,
        /// What unblocks it.
        unblock: String,
    },
    /// Given back unfinished. Costs no attempt.
    Release,
}

/// The row after its step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Whether the outcome was written (`Held`), or why it was not.
    pub check: LeaseCheck,
    /// The row's state now.
    pub state: State,
    /// The row's generation now.
    pub generation: i64,
    /// The walk's trace context.
    pub traceparent: Option<String>,
    /// Whether an operator holds the row.
    pub held: bool,
}

pub(super) fn check(verdict: &str) -> LeaseCheck {
    match verdict {
        "held" | "done" => LeaseCheck::Held,
        "superseded" => LeaseCheck::Superseded,
        _ => LeaseCheck::Lost,
    }
}

/// What `take_lease` returns: verdict, generation, seconds to wait, token and number of the lease.
type TakenRow = (String, Option<i64>, Option<f64>, Option<Uuid>, Option<i64>);

/// `lock_timeout` of the engine's functions has passed.
pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";

impl Repository {
    /// Takes a row for one step. The attempt is counted here, before the step begins.
    pub async fn take_lease(
        &self,
        id: i64,
        state: State,
        generation: Option<i64>,
        owner: &str,
        lease: Duration,
        max_attempts: u32,
    ) -> Result<Verdict> {
        let taken = crash::around(
            "take_lease",
            sqlx::query_as("SELECT * FROM take_lease($1, $2, $3, $4, $5, $6)")
                .bind(id)
                .bind(state.name())
                .bind(generation)
                .bind(owner)
                .bind(interval(lease))
                .bind(i32::try_from(max_attempts).unwrap_or(i32::MAX))
                .fetch_one(&self.pool),
        )
        .await;
        let (verdict, generation, wait, token, number): TakenRow = match taken {
            // Somebody's open transaction has the row: this job comes back, and no other row waits for it.
            Err(sqlx::Error::Database(db)) if db.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                return Ok(Verdict::Busy(Duration::from_secs(1)));
            }
            taken => taken?,
        };
        let wait = Duration::from_secs_f64(wait.unwrap_or(0.0).max(0.0));
        let generation = generation.unwrap_or_default();
        Ok(match (verdict.as_str(), token) {
            ("taken", Some(token)) => Verdict::Taken(Lease {
                id,
                generation,
                token,
                number: number.unwrap_or_default(),
            }),
            ("no_such_row", _) => Verdict::NoSuchRow,
            ("stale", _) => Verdict::Stale,
            ("held", _) => Verdict::Held,
            ("halted", _) => Verdict::Halted,
            ("busy", _) => Verdict::Busy(wait),
            ("not_yet", _) => Verdict::NotYet(wait),
            ("parked", _) => Verdict::Parked,
            ("exhausted", _) => Verdict::Exhausted(generation),
            (other, _) => {
                return Err(RepositoryError::Strange {
                    id,
                    what: format!("the lease verdict `{other}`"),
                });
            }
        })
    }

    /// Keeps a lease for another `lease` from now.
    pub async fn renew_lease(&self, lease: &Lease, length: Duration) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "renew_lease",
            sqlx::query_scalar("SELECT renew_lease($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(interval(length))
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Writes what a step found out, before it ends.
    pub async fn record_facts(&self, lease: &Lease, facts: &Facts) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "record_facts",
            sqlx::query_scalar("SELECT record_facts($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(sqlx::types::Json(facts))
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Writes how a step ended, and gives the lease back. `look_again`: when the dispatcher looks at the row,
    /// should the next job be lost on its way.
    pub async fn finish_step(
        &self,
        lease: &Lease,
        outcome: &Outcome,
        look_again: Duration,
    ) -> Result<Finished> {
        let none = Facts::default();
        let (kind, to, facts, message, unblock, wait) = match outcome {
            Outcome::Advance { to, facts, why } => ("advance", Some(to.name()), facts, Some(why), None, None),
            Outcome::Wait { after, waiting_for } => {
                ("wait", None, &none, Some(waiting_for), None, Some(*after))
            }
            Outcome::AwaitTurn { after, waiting_for } => {
                ("turn", None, &none, Some(waiting_for), None, Some(*after))
            }
            Outcome::BackOff {
                after,
                error,
                unblock,
            } => ("backoff", None, &none, Some(error), Some(unblock), Some(*after)),
            Outcome::Pause {
                after,
                error,
                unblock,
            } => ("pause", None, &none, Some(error), Some(unblock), Some(*after)),
            Outcome::Park { fault, unblock } => ("park", None, &none, Some(fault), Some(unblock), None),
            Outcome::Release => ("release", None, &none, None, None, None),
        };
        let (verdict, state, generation, traceparent, held): (String, String, i64, Option<String>, bool) =
            crash::around(
                "finish_step",
                sqlx::query_as("SELECT * FROM finish_step($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
                    .bind(lease.id)
                    .bind(lease.token)
                    .bind(lease.generation)
                    .bind(kind)
                    .bind(to)
                    .bind(sqlx::types::Json(facts))
                    .bind(message)
                    .bind(unblock)
                    .bind(wait.map(interval))
                    .bind(interval(look_again))
                    .fetch_one(&self.pool),
            )
            .await?;
        Ok(Finished {
            check: check(&verdict),
            state: state.parse().map_err(|_| RepositoryError::Strange {
                id: lease.id,
                what: format!("the state `{state}`"),
            })?,
            generation,
            traceparent,
            held,
        })
    }
}

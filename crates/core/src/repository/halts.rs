//! The fault budget, and the halt of the whole fleet.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Repository, Result, doors, interval};
use crate::state::State;

/// A halt that is in force: no step begins but those of `stop` and `terminate`, and no deadline ends.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Halt {
    /// Since when.
    pub halted_at: OffsetDateTime,
    /// Who: an operator's login, or a dispatcher that found the fault budget spent.
    pub halted_by: String,
    /// Why.
    pub why: String,
}

impl Halt {
    /// Whether the steps of a state are taken all the same.
    pub fn lets_work(state: State) -> bool {
        matches!(state, State::Stop | State::Terminate)
    }
}

impl Repository {
    /// The halt that is in force, if one is.
    pub async fn halt(&self) -> Result<Option<Halt>> {
        Ok(
            sqlx::query_as("SELECT halted_at, halted_by, why FROM fleet_halts WHERE resumed_at IS NULL")
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// Halts the fleet where more than `share` (0 to 1) of its rows, and at least `least` of them, were parked within
    /// `window` and since the last resume. Returns the halt that is in force, whoever made it.
    pub async fn check_fault_budget(
        &self,
        share: f64,
        least: u32,
        window: Duration,
        by: &str,
    ) -> Result<Option<Halt>> {
        Ok(
            sqlx::query_as("SELECT halted_at, halted_by, why FROM check_fault_budget($1, $2, $3, $4)")
                .bind(share)
                .bind(i64::from(least))
                .bind(interval(window))
                .bind(by)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// Halts the fleet as an operator. `Ok(false)`: it was halted already.
    pub async fn halt_fleet(&self, why: &str) -> Result<std::result::Result<bool, doors::Refused>> {
        self.fleet_call("SELECT halt_fleet($1)", why).await
    }

    /// Ends the halt. `Ok(false)`: the fleet was not halted.
    pub async fn resume_fleet(&self, why: &str) -> Result<std::result::Result<bool, doors::Refused>> {
        self.fleet_call("SELECT resume_fleet($1)", why).await
    }

    async fn fleet_call(
        &self,
        sql: &'static str,
        why: &str,
    ) -> Result<std::result::Result<bool, doors::Refused>> {
        match sqlx::query_scalar(sql).bind(why).fetch_one(&self.pool).await {
            Ok(changed) => Ok(Ok(changed)),
            Err(error) => Ok(Err(doors::refused(error)?)),
        }
    }
}

//! Reading rows, and claiming those that are due.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;

use super::gatewayd::{COLUMNS, Gatewayd, gatewayd, state};
use super::{Repository, Result, interval};
use crate::state::State;

/// One entry of a gatewayd's history.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct HistoryEntry {
    pub at: OffsetDateTime,
    pub event: String,
    pub from_state: Option<String>,
    pub to_state: String,
    pub generation: i64,
    pub by: String,
    pub why: Option<String>,
}

/// What stands in a row for operators only: no step and no dispatcher reads it from here.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct Surroundings {
    pub due_at: Option<OffsetDateTime>,
    pub changed_by: Option<String>,
    pub changed_why: Option<String>,
}

/// Which rows to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only rows in one of these states; empty: all.
    pub states: Vec<State>,
    /// Only rows of this owner.
    pub owner_id: Option<String>,
    /// Only rows with a fault.
    pub faulty: bool,
    /// Only rows on hold.
    pub held: bool,
    /// Only these names; empty: all.
    pub names: Vec<String>,
    /// At most so many, by name; `None`: all.
    pub limit: Option<i64>,
}

/// How many rows stand in a state.
#[derive(Debug, Clone)]
pub struct StateCount {
    /// The state.
    pub state: State,
    /// Rows in it.
    pub rows: i64,
    /// Of those, with a fault.
    pub faulty: i64,
}

/// A row whose step is due.
#[derive(Debug, Clone)]
pub struct DueJob {
    /// `gatewayds.id`.
    pub id: i64,
    /// The row's state.
    pub state: State,
    /// The row's generation.
    pub generation: i64,
    /// The walk's trace context.
    pub traceparent: Option<String>,
}

/// A row that was parked because its deadline was over.
#[derive(Debug, Clone)]
pub struct Overdue {
    /// `gatewayds.id`.
    pub id: i64,
    /// The row's state.
    pub state: State,
    /// The generation that parking made.
    pub generation: i64,
    /// The public sentence.
    pub fault: String,
}

/// No step is due of these rows while the fleet is halted. The subselect is asked once and not for each row.
const NOT_HALTED: &str = "((SELECT NOT fleet_is_halted()) OR works_while_halted(state))";

impl Repository {
    /// A row by its id.
    pub async fn gatewayd(&self, id: i64) -> Result<Option<Gatewayd>> {
        let sql = format!("SELECT {COLUMNS} FROM gatewayds WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(gatewayd).transpose()
    }

    /// A row by its name.
    pub async fn gatewayd_named(&self, name: &str) -> Result<Option<Gatewayd>> {
        let sql = format!("SELECT {COLUMNS} FROM gatewayds WHERE name = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(gatewayd).transpose()
    }

    /// Rows, by name.
    pub async fn gatewayds(&self, filter: &Filter) -> Result<Vec<Gatewayd>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM gatewayds
             WHERE (cardinality($1::text[]) = 0 OR state = ANY ($1))
               AND ($2::text IS NULL OR owner_id = $2)
               AND (NOT $3 OR fault IS NOT NULL)
               AND (NOT $4 OR hold IS NOT NULL)
               AND (cardinality($5::text[]) = 0 OR name = ANY ($5))
             ORDER BY name LIMIT $6"
        );
        let states: Vec<&str> = filter.states.iter().map(|s| s.name()).collect();
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(states)
            .bind(&filter.owner_id)
            .bind(filter.faulty)
            .bind(filter.held)
            .bind(&filter.names)
            .bind(filter.limit)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(gatewayd).collect()
    }

    /// A gatewayd's history, oldest first.
    pub async fn history(&self, id: i64) -> Result<Vec<HistoryEntry>> {
        Ok(sqlx::query_as(
            "SELECT at, event, from_state, to_state, generation, by, why
             FROM gatewayd_history WHERE gatewayd_id = $1 ORDER BY id",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await?)
    }

    /// What operators read of a row beside [`Gatewayd`]; `None` when there is no such row.
    pub async fn surroundings(&self, id: i64) -> Result<Option<Surroundings>> {
        Ok(
            sqlx::query_as("SELECT due_at, changed_by, changed_why FROM gatewayds WHERE id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// Rows by state, of all states that have any.
    pub async fn counts(&self) -> Result<Vec<StateCount>> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT g.state, count(*), count(g.fault) FROM gatewayds g JOIN states s ON s.name = g.state
             GROUP BY g.state, s.place ORDER BY s.place",
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|(name, rows, faulty)| {
                Ok(StateCount {
                    state: state(0, &name)?,
                    rows,
                    faulty,
                })
            })
            .collect()
    }

    /// Claims rows that are due, at most `batch`, and has them looked at again after `look_again`, should their
    /// jobs be lost. Any number of callers may claim at once.
    pub async fn claim_due(&self, batch: u32, look_again: Duration) -> Result<Vec<DueJob>> {
        let rows: Vec<(i64, String, i64, Option<String>)> = sqlx::query_as("SELECT * FROM claim_due($1, $2)")
            .bind(i32::try_from(batch).unwrap_or(i32::MAX))
            .bind(interval(look_again))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter()
            .map(|(id, name, generation, traceparent)| {
                Ok(DueJob {
                    id,
                    state: state(id, &name)?,
                    generation,
                    traceparent,
                })
            })
            .collect()
    }

    /// How long until the next row is due; `None` when none is waiting.
    pub async fn until_next_due(&self) -> Result<Option<Duration>> {
        let sql = format!(
            "SELECT extract(epoch FROM min(due_at) - clock_timestamp())::float8 FROM gatewayds
             WHERE due_at IS NOT NULL AND fault IS NULL AND hold IS NULL AND {NOT_HALTED}"
        );
        let seconds: Option<f64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await?;
        Ok(seconds.map(|s| Duration::from_secs_f64(s.max(0.0))))
    }

    /// For how long the row that waits longest for a dispatcher to look at it has been due; `None` when none is
    /// due. More than a few of the dispatcher's periods: none runs.
    pub async fn overdue(&self) -> Result<Option<Duration>> {
        let sql = format!(
            "SELECT extract(epoch FROM clock_timestamp() - min(due_at))::float8 FROM gatewayds
             WHERE due_at <= clock_timestamp() AND fault IS NULL AND hold IS NULL AND {NOT_HALTED}"
        );
        let seconds: Option<f64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await?;
        Ok(seconds.map(|s| Duration::from_secs_f64(s.max(0.0))))
    }

    /// Parks rows that are past their state's deadline and in no worker's hand.
    pub async fn park_overdue(
        &self,
        deadlines: &BTreeMap<State, Duration>,
        by: &str,
    ) -> Result<Vec<Overdue>> {
        let seconds: BTreeMap<&str, f64> = deadlines
            .iter()
            .map(|(s, d)| (s.name(), d.as_secs_f64()))
            .collect();
        let rows: Vec<(i64, String, i64, String)> = sqlx::query_as("SELECT * FROM park_overdue($1, $2)")
            .bind(sqlx::types::Json(seconds))
            .bind(by)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter()
            .map(|(id, name, generation, fault)| {
                Ok(Overdue {
                    id,
                    state: state(id, &name)?,
                    generation,
                    fault,
                })
            })
            .collect()
    }

    /// The state machine as the database has it: from, to, who.
    pub async fn transitions(&self) -> Result<Vec<(String, String, String)>> {
        Ok(
            sqlx::query_as("SELECT from_state, to_state, made_by FROM transitions")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// The states as the database has them: name, step, worker.
    pub async fn states(&self) -> Result<Vec<(String, Option<String>, Option<String>)>> {
        Ok(
            sqlx::query_as("SELECT name, step, worker FROM states ORDER BY place")
                .fetch_all(&self.pool)
                .await?,
        )
    }
}

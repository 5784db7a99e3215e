//! What an external application does by SQL, for the command line: create, move, retry, hold, resume.

use super::{Repository, RepositoryError, Result};
use crate::state::State;

/// A write that Postgres refused: the sentence that says why, and its hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub String);

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// It was made, or there was nothing to change.
    Done,
    /// There is no row of that name.
    NoSuchName,
    /// Postgres refused it.
    Refused(Refused),
}

pub(super) fn refused(error: sqlx::Error) -> Result<Refused> {
    match error {
        // Integrity constraints and the guard's own refusals: the writer's mistake, not a failure of ours.
        sqlx::Error::Database(db) if db.code().is_some_and(|code| code.starts_with("23")) => {
            let hint = db
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(|pg| pg.hint())
                .map(|hint| format!(". {hint}"))
                .unwrap_or_default();
            Ok(Refused(format!("{}{hint}", db.message())))
        }
        other => Err(RepositoryError::from(other)),
    }
}

impl Repository {
    /// Creates a row in state `new`.
    pub async fn create(
        &self,
        name: &str,
        release: Option<&str>,
        ami: Option<&str>,
        instance_type: Option<&str>,
        owner_id: Option<&str>,
    ) -> Result<std::result::Result<i64, Refused>> {
        let made = sqlx::query_scalar(
            "INSERT INTO gatewayds (name, release, ami, instance_type, owner_id) VALUES ($1, $2, $3, $4, $5) RETURNING id",
        )
        .bind(name)
        .bind(release)
        .bind(ami)
        .bind(instance_type)
        .bind(owner_id)
        .fetch_one(&self.pool)
        .await;
        match made {
            Ok(id) => Ok(Ok(id)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// Writes a row's state; the state that it has already is a retry.
    pub async fn write_state(
        &self,
        name: &str,
        to: State,
        release: Option<&str>,
        why: Option<&str>,
    ) -> Result<Move> {
        let written = sqlx::query(
            "UPDATE gatewayds SET state = $2, release = coalesce($3, release), changed_why = coalesce($4, changed_why)
             WHERE name = $1",
        )
        .bind(name)
        .bind(to.name())
        .bind(release)
        .bind(why)
        .execute(&self.pool)
        .await;
        Self::moved(written)
    }

    /// Tries a row again that has a fault or backs off: a write of the state that it has.
    pub async fn retry(&self, name: &str, why: Option<&str>) -> Result<Move> {
        let written = sqlx::query(
            "UPDATE gatewayds SET state = state, changed_why = coalesce($2, changed_why) WHERE name = $1",
        )
        .bind(name)
        .bind(why)
        .execute(&self.pool)
        .await;
        Self::moved(written)
    }

    /// Holds a row (`Some` reason) or resumes it (`None`).
    pub async fn hold(&self, name: &str, reason: Option<&str>) -> Result<Move> {
        let written = sqlx::query("UPDATE gatewayds SET hold = $2 WHERE name = $1")
            .bind(name)
            .bind(reason)
            .execute(&self.pool)
            .await;
        Self::moved(written)
    }

    fn moved(written: std::result::Result<sqlx::postgres::PgQueryResult, sqlx::Error>) -> Result<Move> {
        match written {
            Ok(done) if done.rows_affected() == 0 => Ok(Move::NoSuchName),
            Ok(_) => Ok(Move::Done),
            Err(error) => Ok(Move::Refused(refused(error)?)),
        }
    }
}

//! Sweeps: asked for, taken, judged and told. Every judgement is a function of `migrations/0007_sweep.sql`.

use std::time::Duration;

use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::doors::{Refused, refused};
use super::{Repository, Result, interval};
use crate::crash;
use crate::sweep::{Comparison, Machine, Report};

/// A sweeper's right to one sweep.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SweepLease {
    /// `sweeps.id`.
    pub id: i64,
    /// Tells this lease from every other.
    pub token: Uuid,
    /// Whether it acts; false: a dry run.
    pub act: bool,
    /// How many machines it may end; `None`: what the settings say.
    pub most: Option<i32>,
}

/// A sweep as it was asked for, and how far it is.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct Sweep {
    pub id: i64,
    pub asked_at: OffsetDateTime,
    pub asked_by: String,
    pub why: Option<String>,
    pub act: bool,
    pub most: Option<i32>,
    pub began_at: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    pub lease_owner: Option<String>,
    pub report: Option<Json<Report>>,
    pub error: Option<String>,
    /// Postgres's clock when it was read.
    pub read_at: OffsetDateTime,
}

/// A row whose machine EC2 does not show among the living.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct Bereft {
    pub id: i64,
    pub name: String,
    pub state: String,
    pub generation: i64,
    pub instance_id: String,
}

/// A machine that EC2 does not show at all.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Missed {
    /// The machine.
    pub instance_id: String,
    /// When a sweep first missed it.
    pub since: OffsetDateTime,
    /// Whether that was an earlier sweep.
    pub before: bool,
    /// How long ago that was, in seconds.
    pub missed_for: f64,
}

impl Repository {
    /// Asks for a sweep, as an operator; its id.
    pub async fn ask_sweep(
        &self,
        act: bool,
        most: Option<i32>,
        why: Option<&str>,
    ) -> Result<std::result::Result<i64, Refused>> {
        let asked = sqlx::query_scalar("SELECT ask_sweep($1, $2, $3)")
            .bind(act)
            .bind(most)
            .bind(why)
            .fetch_one(&self.pool)
            .await;
        match asked {
            Ok(id) => Ok(Ok(id)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// Takes back a sweep that nobody has begun. False: it was begun, or is over.
    pub async fn withdraw_sweep(&self, id: i64) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT withdraw_sweep($1)")
            .bind(id)
            .fetch_one(&self.pool)
            .await?)
    }

    /// A sweep and its report.
    pub async fn sweep(&self, id: i64) -> Result<Option<Sweep>> {
        Ok(sqlx::query_as(
            "SELECT id, asked_at, asked_by, why, act, most, began_at, ended_at, lease_owner, report, error,
                    clock_timestamp() AS read_at
             FROM sweeps WHERE id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Declares this database to be the fleet's from here on. Returns where the fleet was at home, and is now.
    pub async fn declare_restored(
        &self,
        why: &str,
    ) -> Result<std::result::Result<(String, String), Refused>> {
        let declared = sqlx::query_as("SELECT * FROM declare_restored($1)")
            .bind(why)
            .fetch_one(&self.pool)
            .await;
        match declared {
            Ok(homes) => Ok(Ok(homes)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// Asks for an acting sweep where none is open and the last one was asked for at least `every` ago; its id. Any
    /// number of dispatchers may ask.
    pub async fn ask_sweep_on_period(&self, every: Duration, by: &str) -> Result<Option<i64>> {
        Ok(sqlx::query_scalar("SELECT ask_sweep_on_period($1, $2)")
            .bind(interval(every))
            .bind(by)
            .fetch_one(&self.pool)
            .await?)
    }

    /// Takes an open sweep; `None` where there is none, or another has one in hand.
    pub async fn claim_sweep(&self, owner: &str, lease: Duration) -> Result<Option<SweepLease>> {
        Ok(sqlx::query_as("SELECT * FROM claim_sweep($1, $2)")
            .bind(owner)
            .bind(interval(lease))
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Keeps a sweep for another `length` from now. An error where it is another's by now.
    pub async fn renew_sweep(&self, lease: &SweepLease, length: Duration) -> Result<()> {
        sqlx::query("SELECT renew_sweep($1, $2, $3)")
            .bind(lease.id)
            .bind(lease.token)
            .bind(interval(length))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes how a sweep ended: its report, or why there is none.
    pub async fn finish_sweep(
        &self,
        lease: &SweepLease,
        ended: std::result::Result<&Report, &str>,
    ) -> Result<()> {
        crash::around(
            "finish_sweep",
            sqlx::query("SELECT finish_sweep($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(ended.ok().map(Json))
                .bind(ended.err())
                .execute(&self.pool),
        )
        .await?;
        Ok(())
    }

    /// Has the database judge every living machine, and keep the marks if the sweep acts and may. To be called after
    /// EC2 was asked.
    pub async fn compare_machines(&self, lease: &SweepLease, living: &[Machine]) -> Result<Comparison> {
        let compared: Json<Comparison> = crash::around(
            "compare_machines",
            sqlx::query_scalar("SELECT compare_machines($1, $2, $3)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(Json(living))
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(compared.0)
    }

    /// The last look before a machine is ended: `None` where EC2 may be asked now, else why not.
    pub async fn end_orphan(
        &self,
        lease: &SweepLease,
        machine: &Machine,
        grace: Duration,
        most: u32,
    ) -> Result<Option<String>> {
        Ok(crash::around(
            "end_orphan",
            sqlx::query_scalar("SELECT end_orphan($1, $2, $3, $4, $5)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(Json(machine))
                .bind(interval(grace))
                .bind(i32::try_from(most).unwrap_or(i32::MAX))
                .fetch_one(&self.pool),
        )
        .await?)
    }

    /// Rows that should have a machine, in nobody's hand, whose machine is none of these.
    pub async fn rows_without_machine(&self, lease: &SweepLease, living: &[&str]) -> Result<Vec<Bereft>> {
        Ok(sqlx::query_as("SELECT * FROM rows_without_machine($1, $2, $3)")
            .bind(lease.id)
            .bind(lease.token)
            .bind(living)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Marks the machines of these rows as missed, if the sweep acts and may; since when each is.
    pub async fn miss_machines(&self, lease: &SweepLease, rows: &[&Bereft]) -> Result<Vec<Missed>> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let instances: Vec<&str> = rows.iter().map(|row| row.instance_id.as_str()).collect();
        Ok(crash::around(
            "miss_machines",
            sqlx::query_as("SELECT * FROM miss_machines($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(ids)
                .bind(instances)
                .fetch_all(&self.pool),
        )
        .await?)
    }

    /// Parks a row whose machine is gone. `missed_for`: for a machine that is not shown at all, how long ago an earlier
    /// sweep must have missed it. The generation that parking made; `None`: the row is not as it was, or may not be touched.
    pub async fn park_gone(
        &self,
        lease: &SweepLease,
        row: &Bereft,
        fault: &str,
        unblock: &str,
        missed_for: Option<Duration>,
    ) -> Result<Option<i64>> {
        Ok(crash::around(
            "park_gone",
            sqlx::query_scalar("SELECT park_gone($1, $2, $3, $4, $5, $6, $7, $8)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(row.id)
                .bind(row.generation)
                .bind(&row.instance_id)
                .bind(fault)
                .bind(unblock)
                .bind(missed_for.map(interval))
                .fetch_one(&self.pool),
        )
        .await?)
    }
}

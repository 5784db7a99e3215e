//! Rotations of the fleet's SSH key: asked for, taken, and done host by host. Every write is a function of
//! `migrations/0012_identities.sql`.

use std::time::Duration;

use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::doors::{Refused, refused};
use super::leases::{Lease, LeaseCheck, check};
use super::{Repository, Result, interval};
use crate::crash;
use crate::ssh_key::{Act, Report};

/// A worker's right to one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLease {
    /// `ssh_key_runs.id`.
    pub id: i64,
    /// Tells this lease from every other.
    pub token: Uuid,
    /// What to do.
    pub act: Act,
}

/// A run as it was asked for, and how far it is.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct SshKeyRun {
    pub id: i64,
    pub act: String,
    pub asked_at: OffsetDateTime,
    pub asked_by: String,
    pub began_at: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    pub lease_owner: Option<String>,
    pub old_key: Option<String>,
    pub new_key: Option<String>,
    pub report: Option<Json<Report>>,
    pub error: Option<String>,
}

/// A row whose machine a run has to visit.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct KeyedHost {
    pub id: i64,
    pub name: String,
    pub state: String,
    pub hold: Option<String>,
    /// Fingerprints of the keys that it was last seen to let in.
    pub lets_in: Vec<String>,
    /// When it last was.
    pub seen_at: Option<OffsetDateTime>,
}

/// What became of the wish to work on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostLease {
    /// The row is this run's, until it is released.
    Taken(Lease),
    /// A step has it in hand.
    Busy,
    /// An operator holds it.
    Held,
    /// It is being built.
    BeingBuilt,
    /// It has no machine any more.
    NoMachine,
}

const RUN: &str =
    "id, act, asked_at, asked_by, began_at, ended_at, lease_owner, old_key, new_key, report, error";

impl Repository {
    /// Writes whether a machine let one of the fleet's SSH keys in.
    pub async fn record_ssh_login(&self, lease: &Lease, key: &str, let_in: bool) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "record_ssh_login",
            sqlx::query_scalar("SELECT record_ssh_login($1, $2, $3, $4, $5)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(key)
                .bind(let_in)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Asks for a run, as an operator; its id. A key that some host still needs is not retired.
    pub async fn ask_ssh_key_run(
        &self,
        act: Act,
        person: Option<&str>,
        reason: &str,
    ) -> Result<std::result::Result<i64, Refused>> {
        let asked = sqlx::query_scalar("SELECT ask_ssh_key_run($1, $2, $3)")
            .bind(act.name())
            .bind(person)
            .bind(reason)
            .fetch_one(&self.pool)
            .await;
        match asked {
            Ok(id) => Ok(Ok(id)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// Takes back a run that nobody has begun. False: it was begun, or is over.
    pub async fn withdraw_ssh_key_run(&self, id: i64) -> Result<bool> {
        Ok(sqlx::query_scalar("SELECT withdraw_ssh_key_run($1)")
            .bind(id)
            .fetch_one(&self.pool)
            .await?)
    }

    /// A run and its report.
    pub async fn ssh_key_run(&self, id: i64) -> Result<Option<SshKeyRun>> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {RUN} FROM ssh_key_runs WHERE id = $1"));
        Ok(sqlx::query_as(sql).bind(id).fetch_optional(&self.pool).await?)
    }

    /// The latest run that said with which keys it is done.
    pub async fn last_ssh_key_run(&self) -> Result<Option<SshKeyRun>> {
        let sql =
            format!("SELECT {RUN} FROM ssh_key_runs WHERE new_key IS NOT NULL ORDER BY id DESC LIMIT 1");
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_optional(&self.pool)
            .await?)
    }

    /// Every row with a machine that is not about to end, by name.
    pub async fn keyed_hosts(&self) -> Result<Vec<KeyedHost>> {
        Ok(sqlx::query_as(
            "SELECT g.id, g.name, g.state, g.hold,
                    ARRAY(SELECT s.key FROM ssh_logins s WHERE s.attempt_id = l.id AND s.let_in ORDER BY s.seen_at) AS lets_in,
                    (SELECT max(s.seen_at) FROM ssh_logins s WHERE s.attempt_id = l.id AND s.let_in) AS seen_at
             FROM gatewayds g JOIN launch_attempts l ON l.gatewayd_id = g.id AND l.ended_at IS NULL
             WHERE g.state <> 'terminate' ORDER BY g.name",
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Takes an open run; `None` where there is none, or another has one in hand.
    pub async fn claim_ssh_key_run(&self, owner: &str, lease: Duration) -> Result<Option<RunLease>> {
        let taken: Option<(i64, Uuid, String)> =
            sqlx::query_as("SELECT id, token, act FROM claim_ssh_key_run($1, $2)")
                .bind(owner)
                .bind(interval(lease))
                .fetch_optional(&self.pool)
                .await?;
        Ok(taken.map(|(id, token, act)| RunLease {
            id,
            token,
            act: if act == Act::Retire.name() {
                Act::Retire
            } else {
                Act::Rotate
            },
        }))
    }

    /// Says with which keys a run is done: `Some` reason why it must not be.
    pub async fn begin_ssh_key_run(&self, run: &RunLease, old: &str, new: &str) -> Result<Option<String>> {
        Ok(crash::around(
            "begin_ssh_key_run",
            sqlx::query_scalar("SELECT begin_ssh_key_run($1, $2, $3, $4)")
                .bind(run.id)
                .bind(run.token)
                .bind(old)
                .bind(new)
                .fetch_one(&self.pool),
        )
        .await?)
    }

    /// Keeps a run for another `length` from now. An error where it is another's by now.
    pub async fn renew_ssh_key_run(&self, run: &RunLease, length: Duration) -> Result<()> {
        sqlx::query("SELECT renew_ssh_key_run($1, $2, $3)")
            .bind(run.id)
            .bind(run.token)
            .bind(interval(length))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes how a run ended: its report, or why there is none.
    pub async fn finish_ssh_key_run(
        &self,
        run: &RunLease,
        ended: std::result::Result<&Report, &str>,
    ) -> Result<()> {
        crash::around(
            "finish_ssh_key_run",
            sqlx::query("SELECT finish_ssh_key_run($1, $2, $3, $4)")
                .bind(run.id)
                .bind(run.token)
                .bind(ended.ok().map(Json))
                .bind(ended.err())
                .execute(&self.pool),
        )
        .await?;
        Ok(())
    }

    /// Takes the lease of a row, so that a run may act on its host for at most `length`.
    pub async fn lease_for_ssh_key(&self, run: &RunLease, id: i64, length: Duration) -> Result<HostLease> {
        let (verdict, generation, token, number): (String, Option<i64>, Option<Uuid>, Option<i64>) =
            crash::around(
                "lease_for_ssh_key",
                sqlx::query_as("SELECT * FROM lease_for_ssh_key($1, $2, $3, $4)")
                    .bind(run.id)
                    .bind(run.token)
                    .bind(id)
                    .bind(interval(length))
                    .fetch_one(&self.pool),
            )
            .await?;
        Ok(match (verdict.as_str(), generation, token, number) {
            ("taken", Some(generation), Some(token), Some(number)) => HostLease::Taken(Lease {
                id,
                generation,
                token,
                number,
            }),
            ("held", ..) => HostLease::Held,
            ("being_built", ..) => HostLease::BeingBuilt,
            ("no_machine", ..) => HostLease::NoMachine,
            _ => HostLease::Busy,
        })
    }

    /// Gives a row back.
    pub async fn release_from_ssh_key(&self, lease: &Lease) -> Result<()> {
        crash::around(
            "release_from_ssh_key",
            sqlx::query("SELECT release_from_ssh_key($1, $2)")
                .bind(lease.id)
                .bind(lease.token)
                .execute(&self.pool),
        )
        .await?;
        Ok(())
    }
}

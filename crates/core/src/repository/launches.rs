//! Launch attempts: stored whole before EC2 hears of them.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::crash;

use super::leases::{Lease, LeaseCheck};
use super::{Repository, Result, interval};

/// One attempt to launch a machine for a gatewayd.
#[derive(Clone, sqlx::FromRow)]
pub struct LaunchAttempt {
    /// Also the value of the attempt's tag.
    pub id: Uuid,
    /// `gatewayds.id`.
    pub gatewayd_id: i64,
    /// EC2's idempotency token: the authority on what this attempt launched.
    pub client_token: String,
    /// The request but for its user data.
    pub request: Value,
    /// The user data, sealed.
    pub sealed_user_data: Vec<u8>,
    /// The public half of the host key in the user data, in OpenSSH's format.
    pub host_key: String,
    /// When the attempt was stored.
    pub created_at: OffsetDateTime,
    /// No request of this attempt is sent after this moment.
    pub send_until: OffsetDateTime,
    /// What EC2 launched; `None` until it is known.
    pub instance_id: Option<String>,
    /// Since when it is known.
    pub instance_known_at: Option<OffsetDateTime>,
    /// When the attempt ended: its machine is gone, or there never was one.
    pub ended_at: Option<OffsetDateTime>,
    /// Why it ended.
    pub ended_why: Option<String>,
}

/// What became of the wish to store an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// It is stored, or the lease does not stand any more.
    Checked(LeaseCheck),
    /// As many launches of the fleet are under way as may be: nothing was stored.
    Full,
}

impl Repository {
    /// The attempt of a gatewayd that is not ended, if there is one. There is at most one. For the instance-worker: nobody else
    /// may read its sealed part.
    pub async fn launch_attempt(&self, id: i64) -> Result<Option<LaunchAttempt>> {
        Ok(
            sqlx::query_as("SELECT * FROM launch_attempts WHERE gatewayd_id = $1 AND ended_at IS NULL")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// The SSH host key that the attempt in force gave its machine, in OpenSSH's format.
    pub async fn host_key(&self, id: i64) -> Result<Option<String>> {
        Ok(sqlx::query_scalar(
            "SELECT host_key FROM launch_attempts WHERE gatewayd_id = $1 AND ended_at IS NULL",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Stores an attempt, unless `at_once` launches of the fleet are under way. Fails where the gatewayd has one that is
    /// not ended.
    #[allow(
        clippy::too_many_arguments,
        reason = "one column each; a struct would only name them again"
    )]
    pub async fn open_launch_attempt(
        &self,
        lease: &Lease,
        attempt: Uuid,
        client_token: &str,
        request: &Value,
        sealed_user_data: &[u8],
        host_key: &str,
        send_for: Duration,
        at_once: u32,
    ) -> Result<Opening> {
        let verdict: String = crash::around(
            "open_launch_attempt",
            sqlx::query_scalar("SELECT open_launch_attempt($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(attempt)
                .bind(client_token)
                .bind(request)
                .bind(sealed_user_data)
                .bind(host_key)
                .bind(interval(send_for))
                .bind(i64::from(at_once))
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(match verdict.as_str() {
            "full" => Opening::Full,
            verdict => Opening::Checked(super::leases::check(verdict)),
        })
    }

    /// Writes which instance an attempt launched, to the attempt and to the row.
    pub async fn resolve_launch_attempt(
        &self,
        lease: &Lease,
        attempt: Uuid,
        instance: &str,
    ) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "resolve_launch_attempt",
            sqlx::query_scalar("SELECT resolve_launch_attempt($1, $2, $3, $4, $5)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(attempt)
                .bind(instance)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(super::leases::check(&verdict))
    }

    /// Ends an attempt: its machine is gone, or EC2 has said that there is none. Clears what the row knew of it.
    pub async fn end_launch_attempt(&self, lease: &Lease, attempt: Uuid, why: &str) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "end_launch_attempt",
            sqlx::query_scalar("SELECT end_launch_attempt($1, $2, $3, $4, $5)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(attempt)
                .bind(why)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(super::leases::check(&verdict))
    }
}

//! What a machine is known by: its SSH host key, and how that is replaced or reset. Every write is a function of
//! `migrations/0012_identities.sql`.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::doors::{Refused, refused};
use super::leases::{Lease, LeaseCheck, check};
use super::{Repository, Result};
use crate::crash;

/// What is known of a machine before the first byte: exactly `host_key` and `pending_host_key` are accepted; where
/// `expected_host_key` is set, that alone. Keys are in OpenSSH's format, fingerprints as OpenSSH prints them.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct HostIdentity {
    /// The launch attempt of which it is the machine.
    pub attempt: Uuid,
    /// The key that counts.
    pub host_key: String,
    /// The key that replaces it, once a connection has shown it.
    pub pending_host_key: Option<String>,
    /// The fingerprint that an operator expects.
    pub expected_host_key: Option<String>,
    /// When the key of the launch was replaced by one that was made on the host.
    pub host_key_replaced_at: Option<OffsetDateTime>,
    /// When the private half of the launch's key was erased.
    pub launch_key_erased_at: Option<OffsetDateTime>,
    /// Fingerprints of those of the fleet's SSH keys that the machine was last seen to let in.
    pub lets_in: Vec<String>,
}

/// An identity that an operator reset.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Reset {
    /// `ssh` or `tls`.
    pub kind: String,
    /// The fingerprint that counted before.
    pub former: Option<String>,
    /// The fingerprint that alone is accepted from now on.
    pub expected: String,
}

/// One entry of the audit.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "each field is the column of that name")]
pub struct Audited {
    pub at: OffsetDateTime,
    pub login: String,
    pub person: Option<String>,
    pub action: String,
    pub reason: String,
    pub details: Value,
}

impl Repository {
    /// What the machine of a gatewayd is known by. `None`: no launch attempt is in force.
    pub async fn host_identity(&self, id: i64) -> Result<Option<HostIdentity>> {
        Ok(sqlx::query_as(
            "SELECT l.id AS attempt, l.host_key, l.pending_host_key, l.expected_host_key, l.host_key_replaced_at,
                    l.launch_key_erased_at,
                    ARRAY(SELECT s.key FROM ssh_logins s WHERE s.attempt_id = l.id AND s.let_in ORDER BY s.seen_at) AS lets_in
             FROM launch_attempts l WHERE l.gatewayd_id = $1 AND l.ended_at IS NULL",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Keeps the host key that a machine is about to be given: it is accepted from now on, beside the present one.
    pub async fn keep_pending_host_key(&self, lease: &Lease, key: &str) -> Result<LeaseCheck> {
        self.with_host_key(
            "keep_pending_host_key",
            "SELECT keep_pending_host_key($1, $2, $3, $4)",
            lease,
            key,
        )
        .await
    }

    /// Makes the pending host key the one that counts: the former one is accepted no more.
    pub async fn promote_host_key(&self, lease: &Lease, key: &str) -> Result<LeaseCheck> {
        self.with_host_key(
            "promote_host_key",
            "SELECT promote_host_key($1, $2, $3, $4)",
            lease,
            key,
        )
        .await
    }

    /// Pins the host key that was met, which has the fingerprint that an operator expects.
    pub async fn pin_host_key(&self, lease: &Lease, key: &str) -> Result<LeaseCheck> {
        self.with_host_key("pin_host_key", "SELECT pin_host_key($1, $2, $3, $4)", lease, key)
            .await
    }

    async fn with_host_key(
        &self,
        effect: &str,
        sql: &'static str,
        lease: &Lease,
        key: &str,
    ) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            effect,
            sqlx::query_scalar(sql)
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(key)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Erases the sealed user data of the machine's launch, after the machine has erased its copies.
    pub async fn forget_launch_key(&self, lease: &Lease) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "forget_launch_key",
            sqlx::query_scalar("SELECT forget_launch_key($1, $2, $3)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Has a gatewayd's machine accepted by this fingerprint alone, as an operator. `person` is whoever says that he does it.
    pub async fn reset_identity(
        &self,
        name: &str,
        fingerprint: &str,
        person: Option<&str>,
        reason: &str,
    ) -> Result<std::result::Result<Reset, Refused>> {
        let reset = sqlx::query_as("SELECT * FROM reset_identity($1, $2, $3, $4)")
            .bind(name)
            .bind(fingerprint)
            .bind(person)
            .bind(reason)
            .fetch_one(&self.pool)
            .await;
        match reset {
            Ok(reset) => Ok(Ok(reset)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// What was done with the identities of a gatewayd, oldest first.
    pub async fn identity_audit(&self, id: i64) -> Result<Vec<Audited>> {
        Ok(sqlx::query_as(
            "SELECT at, login, person, action, reason, details FROM audit
             WHERE gatewayd_id = $1 AND action LIKE 'reset-%-identity' ORDER BY id",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await?)
    }
}

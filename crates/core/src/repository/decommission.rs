//! Ending a gatewayd: what must be kept elsewhere first, and an operator's word to the contrary.

use time::OffsetDateTime;

use super::leases::{Lease, LeaseCheck, check};
use super::{Move, Refused, Repository, Result, doors};
use crate::crash;

/// What must be kept elsewhere before a host may be ended.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DecommissionPolicy {
    /// A verified backup of the cold wallet.
    pub require_wallet_backup: bool,
    /// A backup of the host, made by `stop` since gatewayd was last started there.
    pub require_host_backup: bool,
    /// Since when it is so.
    pub changed_at: OffsetDateTime,
    /// The login that made it so.
    pub changed_by: String,
}

impl Repository {
    /// The policy in force.
    pub async fn decommission_policy(&self) -> Result<DecommissionPolicy> {
        Ok(sqlx::query_as(
            "SELECT require_wallet_backup, require_host_backup, changed_at, changed_by FROM decommission_policy",
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Changes the policy as an operator, on record; `None` leaves a rule as it is.
    pub async fn set_decommission_policy(
        &self,
        wallet_backup: Option<bool>,
        host_backup: Option<bool>,
        reason: &str,
        person: Option<&str>,
    ) -> Result<std::result::Result<(), Refused>> {
        let set = sqlx::query("SELECT set_decommission_policy($1, $2, $3, $4)")
            .bind(wallet_backup)
            .bind(host_backup)
            .bind(reason)
            .bind(person)
            .execute(&self.pool)
            .await;
        match set {
            Ok(_) => Ok(Ok(())),
            Err(error) => Ok(Err(doors::refused(error)?)),
        }
    }

    /// Moves a row to `terminate` as an operator, whatever was not kept elsewhere: this once, and on record.
    pub async fn terminate_without_backup(
        &self,
        name: &str,
        reason: &str,
        person: Option<&str>,
    ) -> Result<Move> {
        let moved = sqlx::query_scalar("SELECT terminate_without_backup($1, $2, $3)")
            .bind(name)
            .bind(reason)
            .bind(person)
            .fetch_one(&self.pool)
            .await;
        match moved {
            Ok(true) => Ok(Move::Done),
            Ok(false) => Ok(Move::NoSuchName),
            Err(error) => Ok(Move::Refused(doors::refused(error)?)),
        }
    }

    /// Keeps that the row's host was backed up, and where to, if the command said so.
    pub async fn record_host_backup(&self, lease: &Lease, place: Option<&str>) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "record_host_backup",
            sqlx::query_scalar("SELECT record_host_backup($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(place)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }
}

//! Sealed secrets: keys and wallets. What comes and goes here is sealed; nothing here can open it.

use crate::crash;

use super::leases::{Lease, LeaseCheck, check};
use super::{Repository, Result};

/// A cold wallet as it is kept.
#[derive(Clone, sqlx::FromRow)]
pub struct StoredWallet {
    /// The address on the ledger.
    pub address: String,
    /// `secp256k1` or `ed25519`.
    pub key_type: String,
    /// The newest version of the sealed seed.
    pub version: i32,
    /// The seed, sealed.
    pub sealed: Vec<u8>,
}

impl Repository {
    /// gatewayd's API key, sealed: for the wallet-worker.
    pub async fn api_key(&self, id: i64) -> Result<Option<Vec<u8>>> {
        Ok(
            sqlx::query_scalar("SELECT sealed FROM api_keys WHERE gatewayd_id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// Keeps the API key that was read from a host.
    pub async fn keep_api_key(&self, lease: &Lease, sealed: &[u8]) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "keep_api_key",
            sqlx::query_scalar("SELECT keep_api_key($1, $2, $3, $4)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(sealed)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// The address of the wallet of a gatewayd, if it has one: no secret.
    pub async fn wallet_address(&self, id: i64) -> Result<Option<String>> {
        Ok(
            sqlx::query_scalar("SELECT address FROM wallets WHERE gatewayd_id = $1")
                .bind(id)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// The wallet of a gatewayd, if it has one, with its sealed seed: for the wallet-worker.
    pub async fn wallet(&self, id: i64) -> Result<Option<StoredWallet>> {
        Ok(sqlx::query_as(
            "SELECT w.address, w.key_type, s.version, s.sealed
             FROM wallets w JOIN wallet_seeds s USING (gatewayd_id)
             WHERE w.gatewayd_id = $1 ORDER BY s.version DESC LIMIT 1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Keeps a new wallet, unless the gatewayd has one: that one stays. Read back which one it is.
    pub async fn keep_wallet(
        &self,
        lease: &Lease,
        address: &str,
        key_type: &str,
        sealed: &[u8],
    ) -> Result<LeaseCheck> {
        let verdict: String = crash::around(
            "keep_wallet",
            sqlx::query_scalar("SELECT keep_wallet($1, $2, $3, $4, $5, $6)")
                .bind(lease.id)
                .bind(lease.token)
                .bind(lease.generation)
                .bind(address)
                .bind(key_type)
                .bind(sealed)
                .fetch_one(&self.pool),
        )
        .await?;
        Ok(check(&verdict))
    }

    /// Whether a copy of the wallet outside this database was ever verified.
    pub async fn has_wallet_backup(&self, id: i64, address: &str) -> Result<bool> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM wallet_backups WHERE gatewayd_id = $1 AND address = $2)",
        )
        .bind(id)
        .bind(address)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Keeps that a copy of the wallet at `place`, whose SHA-256 is `digest` in hex, was read back and opened to its
    /// address. False: it is not the wallet of this gatewayd.
    pub async fn record_wallet_backup(
        &self,
        id: i64,
        address: &str,
        place: &str,
        digest: &str,
    ) -> Result<bool> {
        Ok(crash::around(
            "record_wallet_backup",
            sqlx::query_scalar("SELECT record_wallet_backup($1, $2, $3, $4)")
                .bind(id)
                .bind(address)
                .bind(place)
                .bind(digest)
                .fetch_one(&self.pool),
        )
        .await?)
    }
}

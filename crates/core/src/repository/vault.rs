//! Acts with secrets, as an operator: each is put on record, and then gives what is sealed. Nothing here can open it.

use serde_json::Value;

use super::doors::{Refused, refused};
use super::{Repository, Result};
use crate::crash;
use crate::seal::Place;

/// The tables that hold sealed secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// Seeds of wallets; the newest version of each.
    WalletSeeds,
    /// API keys of gatewayds.
    ApiKeys,
    /// User data of launches.
    LaunchAttempts,
}

impl SecretKind {
    /// All of them.
    pub const ALL: [SecretKind; 3] = [Self::WalletSeeds, Self::ApiKeys, Self::LaunchAttempts];

    /// The table's name.
    #[must_use]
    pub fn table(self) -> &'static str {
        match self {
            Self::WalletSeeds => "wallet_seeds",
            Self::ApiKeys => "api_keys",
            Self::LaunchAttempts => "launch_attempts",
        }
    }

    /// Where a row's secret is sealed for.
    #[must_use]
    pub fn place(self, row: &str) -> Place<'_> {
        match self {
            Self::WalletSeeds => Place::wallet_seed(row),
            Self::ApiKeys => Place::api_key(row),
            Self::LaunchAttempts => Place::launch_user_data(row),
        }
    }

    /// The row that takes a secret of `row` when it is sealed again: the next version of a seed, else the same.
    #[must_use]
    pub fn next_row(self, row: &str) -> Option<String> {
        if self != Self::WalletSeeds {
            return Some(row.to_owned());
        }
        let (id, version) = row.split_once('/')?;
        let next = version.parse::<i32>().ok()?.checked_add(1)?;
        Some(format!("{id}/{next}"))
    }
}

/// A sealed secret and where it stands.
#[derive(Clone, sqlx::FromRow)]
pub struct SealedRow {
    /// Its place in the order of batches.
    pub place: String,
    /// The row to which it is sealed.
    pub place_row: String,
    /// The gatewayd.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The wallet's address, for a seed.
    pub address: Option<String>,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
}

/// A secret that somebody asked to see.
#[derive(Clone, sqlx::FromRow)]
pub struct ToReveal {
    /// The row to which it is sealed.
    pub place_row: String,
    /// The wallet's address, for a seed.
    pub address: Option<String>,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
}

/// How many rows of a table are under a key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct KeyCount {
    /// The table.
    pub kind: String,
    /// False: an older version, which nothing opens any more.
    pub in_use: bool,
    /// The key's id; `None`: it is no sealed blob.
    pub key: Option<String>,
    /// How many.
    pub rows: i64,
}

/// A wallet, as far as it is public.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct PublicWallet {
    /// The gatewayd.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The wallet's address.
    pub address: String,
}

impl Repository {
    /// Puts an act with secrets on record and returns its number, which the statements below want. `None`: there is no
    /// gatewayd of that name, or it has no such secret.
    pub async fn declare_secret_act(
        &self,
        action: &str,
        name: Option<&str>,
        person: Option<&str>,
        reason: &str,
        details: &Value,
    ) -> Result<std::result::Result<Option<i64>, Refused>> {
        let declared = crash::around(
            "declare_secret_act",
            sqlx::query_scalar("SELECT declare_secret_act($1, $2, $3, $4, $5)")
                .bind(action)
                .bind(name)
                .bind(person)
                .bind(reason)
                .bind(details)
                .fetch_one(&self.pool),
        )
        .await;
        match declared {
            Ok(act) => Ok(Ok(act)),
            Err(error) => Ok(Err(refused(error)?)),
        }
    }

    /// The secret that an act of revealing is about.
    pub async fn secret_to_reveal(&self, act: i64) -> Result<Option<ToReveal>> {
        Ok(
            sqlx::query_as("SELECT place_row, address, sealed FROM secret_to_reveal($1)")
                .bind(act)
                .fetch_optional(&self.pool)
                .await?,
        )
    }

    /// The next sealed secrets of a table after a place: all, or those that are not under one key.
    pub async fn sealed_batch(
        &self,
        act: i64,
        kind: SecretKind,
        not_under: Option<&str>,
        after: Option<&str>,
        limit: i32,
    ) -> Result<Vec<SealedRow>> {
        Ok(sqlx::query_as(
            "SELECT place, place_row, id, name, address, sealed FROM sealed_batch($1, $2, $3, $4, $5)",
        )
        .bind(act)
        .bind(kind.table())
        .bind(not_under)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?)
    }

    /// Keeps secrets that were sealed again under `key`, as (row, what it was, what it is now), where nobody wrote them
    /// meanwhile. Returns the rows that were kept.
    pub async fn reseal(
        &self,
        act: i64,
        kind: SecretKind,
        key: &str,
        again: &[(String, Vec<u8>, Vec<u8>)],
    ) -> Result<Vec<String>> {
        let rows: Vec<&str> = again.iter().map(|(row, _, _)| row.as_str()).collect();
        let old: Vec<&[u8]> = again.iter().map(|(_, old, _)| old.as_slice()).collect();
        let new: Vec<&[u8]> = again.iter().map(|(_, _, new)| new.as_slice()).collect();
        Ok(crash::around(
            "reseal",
            sqlx::query_scalar("SELECT reseal($1, $2, $3, $4, $5, $6)")
                .bind(act)
                .bind(kind.table())
                .bind(key)
                .bind(rows)
                .bind(old)
                .bind(new)
                .fetch_one(&self.pool),
        )
        .await?)
    }

    /// How many rows are under which key.
    pub async fn sealed_counts(&self) -> Result<Vec<KeyCount>> {
        Ok(
            sqlx::query_as("SELECT kind, in_use, key, rows FROM sealed_counts()")
                .fetch_all(&self.pool)
                .await?,
        )
    }

    /// Every wallet, as far as it is public.
    pub async fn public_wallets(&self) -> Result<Vec<PublicWallet>> {
        Ok(sqlx::query_as(
            "SELECT g.id, g.name, w.address FROM wallets w JOIN gatewayds g ON g.id = w.gatewayd_id ORDER BY g.id",
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

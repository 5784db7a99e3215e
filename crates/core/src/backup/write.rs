//! Writing a backup, wallet by wallet.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::{BackupError, FORMAT, Header, Trailer, VERSION, WalletLine, seed_row, trailer_secret};
use crate::seal::{KeyRing, Place};
use crate::wallet::Wallet;

/// Writes a backup line by line. What it has written is worth nothing before [`BackupWriter::finish`].
pub struct BackupWriter<'a, W> {
    to: W,
    fleet: Uuid,
    keys: &'a KeyRing,
    hash: Sha256,
    wallets: u64,
}

impl<W> std::fmt::Debug for BackupWriter<'_, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BackupWriter({} wallets)", self.wallets)
    }
}

impl<'a, W: Write> BackupWriter<'a, W> {
    /// Begins a backup of a fleet, sealed with the first of the backup keys.
    ///
    /// # Errors
    /// Nothing can be written.
    pub fn new(to: W, fleet: Uuid, keys: &'a KeyRing) -> Result<Self, BackupError> {
        let mut writer = Self {
            to,
            fleet,
            keys,
            hash: Sha256::new(),
            wallets: 0,
        };
        writer.line(&Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            fleet,
            made_at: OffsetDateTime::now_utc()
                .format(&Rfc3339)
                .map_err(std::io::Error::other)?,
            key: keys.sealing_id().to_owned(),
        })?;
        Ok(writer)
    }

    /// Adds the wallet of a gatewayd.
    ///
    /// # Errors
    /// It cannot be sealed or written.
    pub fn add(&mut self, gatewayd: i64, name: &str, wallet: &Wallet) -> Result<(), BackupError> {
        let row = seed_row(self.fleet, gatewayd, wallet.address());
        let sealed = self.keys.seal(Place::backup_seed(&row), wallet.seed().expose())?;
        self.line(&WalletLine {
            gatewayd,
            name: name.to_owned(),
            address: wallet.address().to_owned(),
            key_type: wallet.key_type(),
            seed: BASE64.encode(sealed),
        })?;
        self.wallets += 1;
        Ok(())
    }

    /// Seals the whole; returns what was written to, and how many wallets are in it.
    ///
    /// # Errors
    /// It cannot be sealed or written.
    pub fn finish(mut self) -> Result<(W, u64), BackupError> {
        let secret = trailer_secret(self.wallets, &self.hash.clone().finalize());
        let row = self.fleet.to_string();
        let sealed = self.keys.seal(Place::backup_trailer(&row), &secret)?;
        self.line(&Trailer {
            wallets: self.wallets,
            seal: BASE64.encode(sealed),
        })?;
        self.to.flush()?;
        Ok((self.to, self.wallets))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<(), BackupError> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.to.write_all(&text)?;
        Ok(())
    }
}

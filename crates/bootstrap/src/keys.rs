//! Reading the keys that seal secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use gatewayzen_core::seal::{KeyRing, KeyRingError};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::settings::{ConfigError, Secrets};

/// Where a ring may come from: the setting that names a file, and the one that holds the keys.
struct Source<'a> {
    file_key: &'static str,
    file: &'a str,
    keys_key: &'static str,
    keys: &'a SecretString,
    /// What to say where there is neither.
    needed: &'static str,
    unwrap: &'a [String],
    unwrap_timeout: Duration,
}

impl Source<'_> {
    fn is_set(&self) -> bool {
        !self.file.is_empty() || !self.keys.expose_secret().is_empty()
    }

    fn read(&self) -> Result<KeyRing, ConfigError> {
        if !self.is_set() {
            return Err(ConfigError::of(self.file_key, self.needed));
        }
        if self.file.is_empty() {
            return self
                .parse(self.keys.expose_secret())
                .map_err(|error| ConfigError::of(self.keys_key, error.to_string()));
        }
        let text = read_private(self.file_key, self.file)?;
        let bad = |problem: String| ConfigError::of(self.file_key, format!("{}: {problem}", self.file));
        let text = std::str::from_utf8(&text).map_err(|_| bad("it is not text".into()))?;
        self.parse(text).map_err(|error| bad(error.to_string()))
    }

    fn parse(&self, text: &str) -> Result<KeyRing, KeyRingError> {
        if self.unwrap.is_empty() {
            return KeyRing::parse(text);
        }
        KeyRing::parse_with(text, |id, wrapped| {
            unwrap::run(self.unwrap, wrapped, self.unwrap_timeout).map_err(|problem| {
                KeyRingError::NotUnwrapped {
                    id: id.to_owned(),
                    problem: format!("secrets.unwrap_command {problem}"),
                }
            })
        })
    }

    /// As [`Source::read`]; nothing where nothing is set.
    fn read_if_set(&self) -> Result<Option<KeyRing>, ConfigError> {
        self.is_set().then(|| self.read()).transpose()
    }
}

fn common(secrets: &Secrets) -> Source<'_> {
    Source {
        file_key: "secrets.key_file",
        file: &secrets.key_file,
        keys_key: "secrets.keys",
        keys: &secrets.keys,
        needed: "this service needs the keys that seal secrets: name a file of lines ID:BASE64-OF-32-BYTES, \
                 or set secrets.keys",
        unwrap: &secrets.unwrap_command,
        unwrap_timeout: secrets.unwrap_timeout,
    }
}

fn wallets(secrets: &Secrets) -> Source<'_> {
    Source {
        file_key: "secrets.wallet_key_file",
        file: &secrets.wallet_key_file,
        keys_key: "secrets.wallet_keys",
        keys: &secrets.wallet_keys,
        needed: "",
        unwrap: &secrets.unwrap_command,
        unwrap_timeout: secrets.unwrap_timeout,
    }
}

fn backups(secrets: &Secrets) -> Source<'_> {
    Source {
        file_key: "secrets.backup_key_file",
        file: &secrets.backup_key_file,
        keys_key: "secrets.backup_keys",
        keys: &secrets.backup_keys,
        needed: "backups of wallets are sealed with keys of their own: name a file of lines ID:BASE64-OF-32-BYTES, \
                 or set secrets.backup_keys",
        unwrap: &secrets.unwrap_command,
        unwrap_timeout: secrets.unwrap_timeout,
    }
}

/// The key rings of one process.
#[derive(Debug, Clone, Default)]
pub struct Rings {
    /// Seals and opens API keys and user data. `None`: not set here.
    pub common: Option<KeyRing>,
    /// Seals and opens seeds of wallets. Opens what is under the common ring too.
    pub wallets: Option<KeyRing>,
    /// Seals and opens backups of wallets. `None`: not set here.
    pub backups: Option<KeyRing>,
}

impl Rings {
    /// Reads the common ring alone: what a worker has that has no business with wallets.
    ///
    /// # Errors
    /// It is set and cannot be read. Not being set is none.
    pub fn common(secrets: &Secrets) -> Result<Self, ConfigError> {
        Ok(Self {
            common: common(secrets).read_if_set()?,
            ..Self::default()
        })
    }

    /// Reads all that is set.
    ///
    /// # Errors
    /// One of them cannot be read; or a key of the backups seals the database too.
    pub fn all(secrets: &Secrets) -> Result<Self, ConfigError> {
        let common = common(secrets).read_if_set()?;
        let source = wallets(secrets);
        let wallets = match (source.read_if_set()?, &common) {
            (Some(wallets), Some(common)) => {
                let both = wallets.and_open_with(common);
                Some(both.map_err(|error| {
                    ConfigError::of(
                        source.file_key,
                        format!("of the wallets' keys and the common ones together: {error}"),
                    )
                })?)
            }
            (Some(wallets), None) => Some(wallets),
            (None, common) => common.clone(),
        };
        let source = backups(secrets);
        let backups = source.read_if_set()?;
        let sealing = wallets.as_ref().or(common.as_ref());
        if let Some((ours, theirs)) = backups.as_ref().zip(sealing).and_then(|(b, s)| b.in_common(s)) {
            return Err(ConfigError::of(
                source.file_key,
                format!(
                    "the backup key \"{ours}\" is the sealing key \"{theirs}\": make a key of its own for backups, so \
                     that who steals the one does not have the other"
                ),
            ));
        }
        Ok(Self {
            common,
            wallets,
            backups,
        })
    }

    /// The common ring.
    ///
    /// # Errors
    /// It is not set.
    pub fn need_common(&self, secrets: &Secrets) -> Result<&KeyRing, ConfigError> {
        let source = common(secrets);
        self.common
            .as_ref()
            .ok_or_else(|| ConfigError::of(source.file_key, source.needed))
    }

    /// The ring of the wallets.
    ///
    /// # Errors
    /// Neither it nor the common one is set.
    pub fn need_wallets(&self, secrets: &Secrets) -> Result<&KeyRing, ConfigError> {
        match &self.wallets {
            Some(wallets) => Ok(wallets),
            None => self.need_common(secrets),
        }
    }

    /// The ring of the backups.
    ///
    /// # Errors
    /// It is not set.
    pub fn need_backups(&self, secrets: &Secrets) -> Result<&KeyRing, ConfigError> {
        let source = backups(secrets);
        self.backups
            .as_ref()
            .ok_or_else(|| ConfigError::of(source.file_key, source.needed))
    }
}

/// A sentence where wallets have no keys of their own; `None` where they have.
#[must_use]
pub fn shared_with_wallets(secrets: &Secrets) -> Option<String> {
    (!wallets(secrets).is_set()).then(|| {
        "secrets.wallet_key_file is empty: seeds of cold wallets are sealed with the keys of secrets.key_file, which every \
         worker has; give the wallet-worker a ring of its own, then run `gatewayzen secrets rotate`"
            .to_owned()
    })
}

/// Reads the key ring from `secrets.key_file` or `secrets.keys`.
///
/// # Errors
/// There is none, or the file cannot be read, or it is not a key ring. No error shows a key.
pub fn key_ring(secrets: &Secrets) -> Result<KeyRing, ConfigError> {
    common(secrets).read()
}

/// Reads a file that holds a secret. `key` is the setting that names it.
///
/// # Errors
/// It cannot be read.
pub fn read_private(key: &str, path: &str) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
    std::fs::read(path).map(Zeroizing::new).map_err(|error| {
        ConfigError::of(
            key,
            format!("{path} cannot be read: {error}; name a file that this service's user may read"),
        )
    })
}

/// A sentence about a secret file that others than its owner may read or write; `None` when it is private, or
/// not there.
pub fn readable_by_others(path: impl AsRef<Path>) -> Option<String> {
    let path = path.as_ref();
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("{path} has mode {mode:03o}, so others may read or write it; run `chmod 600 {path}`")
    })
}

mod unwrap;

#[cfg(test)]
mod tests;

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
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;

    use super::*;

    fn secrets(key_file: &str, keys: &str) -> Secrets {
        Secrets {
            key_file: key_file.to_owned(),
            keys: keys.to_owned().into(),
            wallet_key_file: String::new(),
            wallet_keys: String::new().into(),
            unwrap_command: Vec::new(),
            unwrap_timeout: Duration::from_secs(10),
            backup_key_file: String::new(),
            backup_keys: String::new().into(),
            wallet_copies: String::new(),
            wallet_copy_command: Vec::new(),
            wallet_copy_timeout: Duration::from_secs(30),
        }
    }

    #[test]
    fn a_backup_key_is_no_sealing_key_whatever_its_id() {
        let both = |backups: String| {
            let mut secrets = secrets("", &line("a"));
            secrets.backup_keys = backups.into();
            secrets
        };
        let good = both(line("b"));
        assert_eq!(Rings::all(&good).unwrap().backups.unwrap().sealing_id(), "b");
        let none = both(String::new());
        let missing = Rings::all(&none)
            .unwrap()
            .need_backups(&none)
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("secrets.backup_key_file: backups of wallets"),
            "{missing}"
        );
        let key = good.keys.expose_secret().split_once(':').unwrap().1.to_owned();
        let mut same = good;
        same.backup_keys = format!("{},b:{key}", line("c")).into();
        let refused = Rings::all(&same).unwrap_err().to_string();
        assert!(
            refused.contains("the backup key \"b\" is the sealing key \"a\""),
            "{refused}"
        );
        assert!(!refused.contains(&key));
    }

    fn line(id: &str) -> String {
        KeyRing::generate_line(id)
            .unwrap()
            .expose_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn keys_come_from_the_file_or_the_setting() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# ours\n{}\n", line("a"))).unwrap();
        assert_eq!(
            key_ring(&secrets(file.path().to_str().unwrap(), ""))
                .unwrap()
                .sealing_id(),
            "a"
        );
        assert_eq!(key_ring(&secrets("", &line("b"))).unwrap().sealing_id(), "b");
    }

    #[test]
    fn no_key_a_missing_file_and_a_bad_ring_are_told_apart_and_show_no_key() {
        let good = line("a");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &good[..20]).unwrap();
        for (secrets, expected) in [
            (secrets("", ""), "secrets.key_file: this service needs the keys"),
            (
                secrets("/nowhere/keys", ""),
                "secrets.key_file: /nowhere/keys cannot be read: No such file",
            ),
            (secrets(file.path().to_str().unwrap(), ""), "secrets.key_file: "),
            (secrets("", &good[..20]), "secrets.keys: "),
        ] {
            let text = key_ring(&secrets).unwrap_err().to_string();
            assert!(text.starts_with(expected), "{text}");
            assert!(!text.contains(&good[4..12]), "{text}");
        }
    }

    #[test]
    fn wallets_may_have_keys_of_their_own_and_old_seeds_still_open() {
        let place = gatewayzen_core::seal::Place::wallet_seed("1/1");
        let mut secrets = secrets("", &line("a"));
        let before = Rings::all(&secrets).unwrap();
        let old = before.wallets.unwrap().seal(place, b"seed").unwrap();
        secrets.wallet_keys = line("w").into();
        let wallets = Rings::all(&secrets).unwrap().wallets.unwrap();
        assert_eq!(
            (wallets.sealing_id(), wallets.open(place, &old).unwrap().expose()),
            ("w", &b"seed"[..])
        );
        // Nobody else opens a new one.
        let new = wallets.seal(place, b"seed").unwrap();
        let common = Rings::common(&secrets).unwrap();
        assert!(common.wallets.is_none());
        assert!(common.common.unwrap().open(place, &new).is_err());
        secrets.wallet_keys = line("a").into();
        let refused = Rings::all(&secrets).unwrap_err().to_string();
        assert!(refused.contains("\"a\" is in the key ring twice"), "{refused}");
    }

    #[test]
    fn a_wrapped_key_is_unwrapped_by_the_command() {
        let plain = line("k");
        let key = plain.split_once(':').unwrap().1;
        // As a key service would: what is wrapped is not the key, and the command makes the key of it.
        let wrapped = BASE64.encode(key.bytes().rev().collect::<Vec<u8>>());
        let mut secrets = secrets("", &format!("k:wrapped:{wrapped},{}", line("old")));
        let refused = key_ring(&secrets).unwrap_err().to_string();
        assert!(
            refused.contains("key \"k\" of the key ring is wrapped: set secrets.unwrap_command"),
            "{refused}"
        );
        let command = |program: &[&str]| program.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        secrets.unwrap_command = command(&["rev"]);
        let ring = key_ring(&secrets).unwrap();
        assert_eq!(ring.in_common(&KeyRing::parse(&plain).unwrap()), Some(("k", "k")));
        for (program, expected) in [
            (&["false"][..], "ended with exit status: 1"),
            (&["/nowhere/unwrap"], "cannot be run: No such file"),
            (
                &["sh", "-c", "echo key service is down >&2; exit 3"],
                "key service is down",
            ),
            (&["echo", "no key"], "is not 32 bytes"),
            (&["sleep", "60"], "did not end within 300ms"),
            (&["yes"], "printed more than a key"),
        ] {
            secrets.unwrap_command = command(program);
            secrets.unwrap_timeout = Duration::from_millis(if program[0] == "sleep" { 300 } else { 10_000 });
            let refused = key_ring(&secrets).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_told_with_the_cure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode =
            |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o640);
        let warning = readable_by_others(file.path()).unwrap();
        assert!(
            warning.contains("mode 640") && warning.contains("chmod 600"),
            "{warning}"
        );
        mode(0o600);
        assert_eq!(readable_by_others(file.path()), None);
    }
}

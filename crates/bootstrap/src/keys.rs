//! Reading the keys that seal secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gatewayzen_core::seal::KeyRing;
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
            return KeyRing::parse(self.keys.expose_secret())
                .map_err(|error| ConfigError::of(self.keys_key, error.to_string()));
        }
        let text = read_private(self.file_key, self.file)?;
        let bad = |problem: String| ConfigError::of(self.file_key, format!("{}: {problem}", self.file));
        let text = std::str::from_utf8(&text).map_err(|_| bad("it is not text".into()))?;
        KeyRing::parse(text).map_err(|error| bad(error.to_string()))
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
    }
}

/// Reads the key ring from `secrets.key_file` or `secrets.keys`.
///
/// # Errors
/// There is none, or the file cannot be read, or it is not a key ring. No error shows a key.
pub fn key_ring(secrets: &Secrets) -> Result<KeyRing, ConfigError> {
    common(secrets).read()
}

/// Whether there are settings for [`backup_ring`].
#[must_use]
pub fn has_backup_ring(secrets: &Secrets) -> bool {
    backups(secrets).is_set()
}

/// Reads the keys that seal backups of wallets from `secrets.backup_key_file` or `secrets.backup_keys`.
///
/// # Errors
/// As [`key_ring`]; and one of these keys seals the database too, as far as this process has the keys that do.
pub fn backup_ring(secrets: &Secrets) -> Result<KeyRing, ConfigError> {
    let source = backups(secrets);
    let ring = source.read()?;
    let sealing = common(secrets);
    if sealing.is_set() {
        let sealing = sealing.read()?;
        if let Some((ours, theirs)) = ring.in_common(&sealing) {
            return Err(ConfigError::of(
                source.file_key,
                format!(
                    "the backup key \"{ours}\" is the sealing key \"{theirs}\": make a key of its own for backups, so \
                     that who steals the one does not have the other"
                ),
            ));
        }
    }
    Ok(ring)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(key_file: &str, keys: &str) -> Secrets {
        Secrets {
            key_file: key_file.to_owned(),
            keys: keys.to_owned().into(),
            backup_key_file: String::new(),
            backup_keys: String::new().into(),
            wallet_copies: String::new(),
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
        assert_eq!(backup_ring(&good).unwrap().sealing_id(), "b");
        let missing = backup_ring(&both(String::new())).unwrap_err().to_string();
        assert!(
            missing.starts_with("secrets.backup_key_file: backups of wallets"),
            "{missing}"
        );
        let key = good.keys.expose_secret().split_once(':').unwrap().1.to_owned();
        let mut same = good;
        same.backup_keys = format!("{},b:{key}", line("c")).into();
        let refused = backup_ring(&same).unwrap_err().to_string();
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

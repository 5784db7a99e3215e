//! Reading the keys that seal secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gatewayzen_core::seal::KeyRing;
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::settings::{ConfigError, Secrets};

/// Reads the key ring from `secrets.key_file` or `secrets.keys`.
///
/// # Errors
/// There is none, or the file cannot be read, or it is not a key ring. No error shows a key.
pub fn key_ring(secrets: &Secrets) -> Result<KeyRing, ConfigError> {
    if secrets.key_file.is_empty() {
        let keys = secrets.keys.expose_secret();
        if keys.is_empty() {
            return Err(ConfigError::of(
                "secrets.key_file",
                "this service needs the keys that seal secrets: name a file of lines ID:BASE64-OF-32-BYTES, \
                 or set secrets.keys",
            ));
        }
        return KeyRing::parse(keys).map_err(|error| ConfigError::of("secrets.keys", error.to_string()));
    }
    let text = read_private("secrets.key_file", &secrets.key_file)?;
    let bad =
        |problem: String| ConfigError::of("secrets.key_file", format!("{}: {problem}", secrets.key_file));
    let text = std::str::from_utf8(&text).map_err(|_| bad("it is not text".into()))?;
    KeyRing::parse(text).map_err(|error| bad(error.to_string()))
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
            core_dumps: false,
        }
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

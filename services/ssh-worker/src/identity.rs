//! Which host keys are accepted: known before the first byte, and nothing is trusted that is met first.

use gatewayzen_core::repository::HostIdentity;
use russh::keys::{HashAlg, PublicKey};

/// Exactly what is accepted of a host.
#[derive(Debug, Clone)]
pub enum Accepted {
    /// One of these keys: the present one, and the one that is about to replace it.
    Keys(Vec<PublicKey>),
    /// Whichever key has this fingerprint, which an operator read somewhere else.
    Fingerprint(String),
}

impl From<&PublicKey> for Accepted {
    fn from(key: &PublicKey) -> Self {
        Accepted::Keys(vec![key.clone()])
    }
}

impl Accepted {
    /// What the database says of a machine.
    ///
    /// # Errors
    /// A stored key cannot be read.
    pub fn of(identity: &HostIdentity) -> Result<Self, String> {
        if let Some(expected) = &identity.expected_host_key {
            return Ok(Accepted::Fingerprint(expected.clone()));
        }
        let stored = [Some(&identity.host_key), identity.pending_host_key.as_ref()];
        let keys = stored.into_iter().flatten().map(|text| read(text));
        keys.collect::<Result<_, _>>().map(Accepted::Keys)
    }

    /// Whether this key is accepted.
    #[must_use]
    pub fn has(&self, key: &PublicKey) -> bool {
        match self {
            Accepted::Keys(keys) => keys.iter().any(|known| known.key_data() == key.key_data()),
            Accepted::Fingerprint(expected) => fingerprint(key) == *expected,
        }
    }

    /// The fingerprints that would do, for a sentence.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Accepted::Keys(keys) => keys.iter().map(fingerprint).collect::<Vec<_>>().join(" or "),
            Accepted::Fingerprint(expected) => expected.clone(),
        }
    }
}

/// A public key in OpenSSH's format, of which a comment is left out.
///
/// # Errors
/// It is not one.
pub fn read(text: &str) -> Result<PublicKey, String> {
    let mut key = PublicKey::from_openssh(text.trim()).map_err(|error| error.to_string())?;
    key.set_comment("");
    Ok(key)
}

/// SHA-256 of a public key, as OpenSSH prints it.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// What the database and the host are told of a key: type and key, without a comment.
#[must_use]
pub fn line(key: &PublicKey) -> String {
    let mut key = key.clone();
    key.set_comment("");
    // A key that was read can be written.
    key.to_openssh().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::PrivateKey;
    use russh::keys::ssh_key::private::Ed25519Keypair;

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
            .public_key()
            .clone()
    }

    fn identity(pending: Option<u8>, expected: Option<u8>) -> HostIdentity {
        HostIdentity {
            attempt: Default::default(),
            host_key: format!("{} a comment\n", line(&key(1))),
            pending_host_key: pending.map(|seed| line(&key(seed))),
            expected_host_key: expected.map(|seed| fingerprint(&key(seed))),
            host_key_replaced_at: None,
            launch_key_erased_at: None,
            lets_in: Vec::new(),
        }
    }

    fn accepts(pending: Option<u8>, expected: Option<u8>) -> Vec<u8> {
        let accepted = Accepted::of(&identity(pending, expected)).unwrap();
        (1..9).filter(|seed| accepted.has(&key(*seed))).collect()
    }

    #[test]
    fn exactly_the_present_and_the_pending_key_are_accepted_or_the_expected_one_alone() {
        assert_eq!(accepts(None, None), [1]);
        assert_eq!(accepts(Some(2), None), [1, 2]);
        assert_eq!(accepts(None, Some(3)), [3]);
        assert_eq!(accepts(Some(2), Some(3)), [3]);
        let shown = Accepted::of(&identity(Some(2), None)).unwrap().shown();
        assert_eq!(
            shown,
            format!("{} or {}", fingerprint(&key(1)), fingerprint(&key(2)))
        );
    }

    #[test]
    fn a_stored_key_that_is_none_accepts_nobody() {
        let mut identity = identity(None, None);
        identity.host_key = "ssh-ed25519 nonsense".into();
        assert!(Accepted::of(&identity).is_err());
    }

    #[test]
    fn a_line_is_type_and_key_alone() {
        let text = line(&read(&format!("{} me@here", line(&key(4)))).unwrap());
        assert_eq!(text.split(' ').count(), 2, "{text}");
    }
}

//! The SSH host key of a machine, made before the machine, so that its identity is known before the first byte.

use gatewayzen_core::seal::SecretBytes;
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

/// A new host key: what the machine is told, and by what it will be known.
#[derive(Debug)]
pub struct HostKey {
    /// The cloud-init user data that installs the key and no other. It holds the private half.
    pub user_data: SecretBytes,
    /// The public half, in OpenSSH's format.
    pub public: String,
}

impl HostKey {
    /// Makes an ed25519 host key from the system's random source.
    ///
    /// # Errors
    /// The key cannot be made or written in OpenSSH's format, which would be a fault of this build.
    pub fn generate() -> Result<HostKey, ssh_key::Error> {
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)?;
        let public = key.public_key().to_openssh()?;
        let private = key.to_openssh(LineEnding::LF)?;
        Ok(HostKey {
            user_data: user_data(&private, &public),
            public,
        })
    }
}

/// The fingerprint of a public key in OpenSSH's format, as OpenSSH prints it: `SHA256:…`.
///
/// # Errors
/// The text is not a public key in OpenSSH's format.
pub fn fingerprint(public: &str) -> Result<String, ssh_key::Error> {
    Ok(PublicKey::from_openssh(public)?
        .fingerprint(HashAlg::Sha256)
        .to_string())
}

/// With `ssh_keys` cloud-init makes no keys of its own; `ssh_deletekeys` removes those that the AMI brought.
fn user_data(private: &str, public: &str) -> SecretBytes {
    // The capacity is set first: a String that grows leaves a copy of the key behind.
    let mut text = String::with_capacity(2 * private.len() + public.len() + 128);
    text.push_str("#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n");
    for line in private.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text.push_str("  ed25519_public: ");
    text.push_str(public);
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a YAML reader makes of a block scalar that is indented by four spaces.
    fn block(text: &str, opening: &str) -> String {
        let lines = text.lines().skip_while(|line| *line != opening).skip(1);
        lines
            .map_while(|line| line.strip_prefix("    "))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    #[test]
    fn the_machine_is_told_the_key_by_which_it_will_be_known() {
        let made = HostKey::generate().unwrap();
        let text = made.user_data.expose_str().unwrap();
        assert!(text.starts_with("#cloud-config\nssh_deletekeys: true\nssh_keys:\n"));
        let private = PrivateKey::from_openssh(block(text, "  ed25519_private: |")).unwrap();
        assert_eq!(private.public_key().to_openssh().unwrap(), made.public);
        assert!(text.ends_with(&format!("\n  ed25519_public: {}\n", made.public)));
        // EC2 takes no more.
        assert!(text.len() < 16 * 1024);
    }

    #[test]
    fn every_machine_has_a_key_of_its_own_that_does_not_show() {
        let (one, other) = (HostKey::generate().unwrap(), HostKey::generate().unwrap());
        assert_ne!(
            fingerprint(&one.public).unwrap(),
            fingerprint(&other.public).unwrap()
        );
        assert!(fingerprint(&one.public).unwrap().starts_with("SHA256:"));
        assert!(!format!("{one:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn what_is_no_key_has_no_fingerprint() {
        assert!(fingerprint("ssh-ed25519 nonsense").is_err());
    }
}

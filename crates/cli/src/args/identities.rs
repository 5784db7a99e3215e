//! `gatewayzen identity …` and `gatewayzen ssh-key …`.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Identity {
    /// Show by which fingerprints the machine is known, and what was reset
    Show {
        /// Which gatewayd
        name: String,
    },
    /// Have the machine accepted by this fingerprint alone; nothing else is trusted from now on
    Reset {
        /// Which gatewayd
        name: String,
        /// What was read on the machine's own console: SHA256:… of its SSH host key (`ssh-keygen -lf`), or the SHA-256 of its
        /// certificate in hexadecimal digits (`openssl x509 -fingerprint -sha256`)
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: String,
        /// Why it changed; kept for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SshKey {
    /// Have every host let the key of ssh.next_key_file in as well, and see it by a login
    Rotate {
        /// Why; kept for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Show which of the fleet's keys each host was seen to let in
    Status,
    /// Have no host let the key of ssh.key_file in any more; refused while one needs it
    Retire {
        /// Why; kept for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

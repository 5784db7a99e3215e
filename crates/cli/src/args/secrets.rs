//! `gatewayzen secrets …`.

use std::path::PathBuf;

use clap::Subcommand;

use super::Act;

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Say how many secrets are under which key, and whether each opens
    Status(Act),
    /// Seal everything again that is not under the first key; services run on, and it may be stopped and run again
    Rotate(Act),
    /// Show one secret: on a terminal, or in a new file that only you may read
    Reveal {
        /// Whose
        name: String,
        /// Which secret
        what: Revealed,
        /// Why; kept for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Write it to this file, which must not exist
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Who asks; kept for ever [default: $USER]
        #[arg(long, value_name = "NAME")]
        person: Option<String>,
        /// Take the wallet from this backup, when the database has lost it
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
        /// Without the database, when all of it is lost: the act is on no record
        #[arg(long, requires = "backup")]
        offline: bool,
    },
    /// Write a backup of all wallets, sealed with the backup keys, to a new file
    Export {
        /// The file, which must not exist
        file: PathBuf,
        /// Why; kept for ever
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Who asks; kept for ever [default: $USER]
        #[arg(long, value_name = "NAME")]
        person: Option<String>,
    },
    /// Prove that a backup is whole, opens, and has each wallet's address; the database then counts it as a backup
    VerifyBackup {
        /// The file
        file: PathBuf,
        /// Without the database: prove that it opens, and record nothing
        #[arg(long)]
        offline: bool,
    },
}

/// A secret that may be revealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Revealed {
    /// gatewayd's API key
    ApiKey,
    /// The seed of the cold wallet: whoever has it owns the wallet
    Wallet,
}

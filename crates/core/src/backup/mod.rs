//! A backup of wallets outside the database: one text file that anybody may hold and only the backup keys open.
//!
//! A file is lines of JSON, each ended by a line feed:
//!
//! ```text
//! {"format":"gatewayzen-wallets","version":1,"fleet":"<uuid>","made_at":"<RFC 3339>","key":"<key id>"}
//! {"gatewayd":42,"name":"acme","address":"r…","key_type":"secp256k1","seed":"<base64 of a sealed blob>"}
//! {"wallets":1,"seal":"<base64 of a sealed blob>"}
//! ```
//!
//! Blobs are those of [`crate::seal`], under a ring of their own. A seed is bound to the fleet, the gatewayd's id and the
//! address. The last line seals the number of wallets and the SHA-256 of every byte before it: a file that was cut off, or
//! had a line taken out, added, changed or moved, does not verify.

mod read;
mod write;

use uuid::Uuid;

use crate::seal::SealError;

pub use read::{Opened, Summary, read};
pub use write::BackupWriter;

/// What the first line calls the format.
pub const FORMAT: &str = "gatewayzen-wallets";

/// The only version so far.
const VERSION: u32 = 1;

/// The longest line, in bytes. A wallet's line has some 400.
const LONGEST_LINE: u64 = 4096;

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    format: String,
    version: u32,
    fleet: Uuid,
    made_at: String,
    key: String,
}

/// What every version of the format has.
#[derive(serde::Deserialize)]
struct Kind {
    format: String,
    version: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct WalletLine {
    gatewayd: i64,
    name: String,
    address: String,
    key_type: crate::wallet::KeyType,
    seed: String,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    wallets: u64,
    seal: String,
}

fn seed_row(fleet: Uuid, gatewayd: i64, address: &str) -> String {
    format!("{fleet}/{gatewayd}/{address}")
}

/// What the trailer seals: the number of wallets, and the hash of all bytes before the trailer.
fn trailer_secret(wallets: u64, hash: &[u8]) -> Vec<u8> {
    [&wallets.to_be_bytes(), hash].concat()
}

/// Why a backup was not written, or does not verify. No variant holds any part of a seed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Nothing can be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The first line is not that of a backup.
    #[error("this is not a backup of wallets: its first line is not the header of one")]
    NotABackup,
    /// The format is a later one.
    #[error(
        "the backup has version {0} of the format, which this program does not know: use the release that wrote it, or a newer one"
    )]
    Newer(u32),
    /// Another fleet's.
    #[error(
        "this is the backup of fleet {theirs}, and this database is of fleet {ours}: take the right file"
    )]
    OtherFleet {
        /// Of the file.
        theirs: Uuid,
        /// Of the database.
        ours: Uuid,
    },
    /// The key is not in the ring.
    #[error(
        "the backup is sealed with key \"{id}\", which is not among the backup keys (they are: {known}): put it back into secrets.backup_key_file"
    )]
    UnknownKey {
        /// The missing key's id.
        id: String,
        /// The ids that are there.
        known: String,
    },
    /// A line that cannot be one.
    #[error(
        "line {0} of the backup is neither a wallet nor the trailer: the file was changed; take another copy"
    )]
    NotALine(u64),
    /// A sealed seed does not open.
    #[error(
        "line {line} of the backup: the seed of {address} does not open with key \"{id}\": the line was changed, or another key has this id now"
    )]
    SeedSealed {
        /// Counted from 1.
        line: u64,
        /// As the line says.
        address: String,
        /// Of the key.
        id: String,
    },
    /// The seed gives another wallet.
    #[error("line {line} of the backup: the seed is not that of {address}: do not rely on this file")]
    OtherWallet {
        /// Counted from 1.
        line: u64,
        /// As the line says.
        address: String,
    },
    /// The file ends before its trailer.
    #[error("the backup was cut off after line {0}: it has no trailer; take another copy")]
    CutOff(u64),
    /// The trailer is not of these lines.
    #[error(
        "the backup is not whole: its trailer does not fit its lines, so that a line was taken out, added, changed or moved; take another copy"
    )]
    NotWhole,
    /// Something follows the trailer.
    #[error("something stands after the trailer of the backup: the file was changed; take another copy")]
    AfterTheEnd,
}

#[cfg(test)]
mod tests;

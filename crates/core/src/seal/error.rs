//! What goes wrong with key rings and sealed blobs. No text here shows key material or a secret.

use super::KEY_ID_MAX;

/// Why a key ring cannot be read. No variant holds key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// There is no key in the text.
    #[error(
        "the key ring has no key: make a first one and put it there as KEYID:KEY, KEY being 32 random bytes in base64"
    )]
    Empty,
    /// An entry has no colon. The entry is not shown, since it may be a bare key.
    #[error("entry {entry} of the key ring is not KEYID:KEY (there is no colon in it)")]
    NoKeyId {
        /// Which entry, counted from 1.
        entry: usize,
    },
    /// A key id has a character that is not allowed, or is empty or too long.
    #[error(
        "entry {entry} of the key ring: a key id is 1 to {KEY_ID_MAX} of the characters a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    BadKeyId {
        /// Which entry, counted from 1.
        entry: usize,
    },
    /// A key is not 32 bytes of base64.
    #[error(
        "key \"{id}\" of the key ring is not 32 bytes in standard base64 (44 characters, the last of them '=')"
    )]
    BadKey {
        /// Its id.
        id: String,
    },
    /// A wrapped key, and nobody to unwrap it.
    #[error(
        "key \"{id}\" of the key ring is wrapped: set secrets.unwrap_command to the command that unwraps it"
    )]
    Wrapped {
        /// Its id.
        id: String,
    },
    /// A wrapped key that was not unwrapped.
    #[error("key \"{id}\" of the key ring is wrapped and was not unwrapped: {problem}")]
    NotUnwrapped {
        /// Its id.
        id: String,
        /// What went wrong; never key material.
        problem: String,
    },
    /// Two keys share one id.
    #[error("key \"{id}\" is in the key ring twice: give every key an id of its own")]
    Twice {
        /// The id.
        id: String,
    },
    /// A new key could not be made.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// The operating system gave no random bytes, so nothing was sealed or made.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoRandomness(#[from] getrandom::Error);

/// Why a secret was not sealed. Nothing of it may be stored then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// There is no nonce.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The cipher refused, which it does only for secrets beyond 256 GiB.
    #[error("the secret is too long to be sealed")]
    TooLong,
}

/// Why a sealed blob does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The key that sealed the blob is not in the ring.
    #[error(
        "it was sealed with key \"{id}\", which is not in the key ring (it has: {known}): put that key back into the ring"
    )]
    UnknownKey {
        /// Id of the missing key.
        id: String,
        /// Ids of the keys that are there, separated by commas.
        known: String,
    },
    /// The blob was changed, or belongs to another place, or the key is another one under the same id.
    #[error(
        "the sealed value in {table}.{column} of row {row} does not open with key \"{id}\": it was changed, moved from another row, or sealed with another key of the same id"
    )]
    Tampered {
        /// Table where the blob was found.
        table: String,
        /// Column where the blob was found.
        column: String,
        /// Row where the blob was found.
        row: String,
        /// Id of the key that the blob names.
        id: String,
    },
    /// The bytes are not a sealed blob of a known version.
    #[error("the sealed value is not one: {0}")]
    Malformed(&'static str),
}

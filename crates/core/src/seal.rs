//! Secrets at rest: XChaCha20-Poly1305 under a ring of keys.
//!
//! A sealed blob is `version (1) | length of key id (1) | key id | nonce (24) | ciphertext and tag (16)`.
//! Version, key id and the blob's place (table, column, row) are authenticated with it, so a blob that
//! was moved to another row, or whose key id was swapped, does not open.
//!
//! A key ring is text: one key per line (or separated by commas), `KEYID:KEY`, the key being 32 bytes in
//! standard base64; or `KEYID:wrapped:BYTES` for a key that a key service has wrapped, which is unwrapped as the ring is read.
//! Empty lines and lines that begin with `#` are skipped. The first key seals; all of
//! them open. A key is rotated by putting a new one first, sealing everything again, and then dropping the
//! old one.

use std::collections::VecDeque;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{AeadInOut as _, KeyInit as _};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

mod error;
mod place;
mod secret;

pub use error::{KeyRingError, NoRandomness, OpenError, SealError};
pub use place::Place;
pub use secret::SecretBytes;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// The longest key id. Shorter than a key in base64 (44), so that a key pasted where an id belongs is
/// refused before an error could print it.
const KEY_ID_MAX: usize = 32;

#[derive(Clone)]
struct RingKey {
    id: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys that seal and open secrets. The first one seals.
#[derive(Clone)]
pub struct KeyRing {
    sealing: RingKey,
    older: Vec<RingKey>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({})", self.ids())
    }
}

impl KeyRing {
    /// Reads a key ring from its text (see the module's documentation for the form).
    ///
    /// # Errors
    /// Names the entry that is wrong, and never shows key material. A wrapped key is one.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        Self::parse_with(text, |id, _| Err(KeyRingError::Wrapped { id: id.to_owned() }))
    }

    /// As [`KeyRing::parse`]; `unwrap` gets the id and the bytes of each wrapped key, and gives the key in base64.
    ///
    /// # Errors
    /// As [`KeyRing::parse`], and what `unwrap` says.
    pub fn parse_with(
        text: &str,
        mut unwrap: impl FnMut(&str, &[u8]) -> Result<SecretBytes, KeyRingError>,
    ) -> Result<Self, KeyRingError> {
        let mut keys: VecDeque<RingKey> = VecDeque::new();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        let entries = lines
            .flat_map(|line| line.split(','))
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        for (index, text) in entries.enumerate() {
            let entry = index + 1;
            let (id, encoded) = text.split_once(':').ok_or(KeyRingError::NoKeyId { entry })?;
            if !is_key_id(id) {
                return Err(KeyRingError::BadKeyId { entry });
            }
            let id = id.to_owned();
            if keys.iter().any(|known| known.id == id) {
                return Err(KeyRingError::Twice { id });
            }
            let decoded = match encoded.trim().strip_prefix("wrapped:") {
                None => decoded(encoded.as_bytes()),
                Some(wrapped) => {
                    let wrapped = BASE64
                        .decode(wrapped.trim())
                        .map_err(|_| KeyRingError::NotUnwrapped {
                            id: id.clone(),
                            problem: "what follows \"wrapped:\" is not standard base64".to_owned(),
                        })?;
                    decoded(unwrap(&id, &wrapped)?.expose())
                }
            };
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            if decoded.len() != KEY_BYTES {
                return Err(KeyRingError::BadKey { id });
            }
            key.copy_from_slice(&decoded);
            keys.push_back(RingKey { id, key });
        }
        let sealing = keys.pop_front().ok_or(KeyRingError::Empty)?;
        Ok(Self {
            sealing,
            older: keys.into(),
        })
    }

    /// Makes a new random key as a line of a key ring, without a line end. The line is a secret.
    ///
    /// # Errors
    /// The id is not one, or the operating system gave no random bytes.
    pub fn generate_line(id: &str) -> Result<SecretBytes, KeyRingError> {
        if !is_key_id(id) {
            return Err(KeyRingError::BadKeyId { entry: 1 });
        }
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        getrandom::fill(key.as_mut_slice()).map_err(NoRandomness::from)?;
        let encoded = Zeroizing::new(BASE64.encode(key.as_slice()));
        Ok([id, ":", &encoded].concat().into())
    }

    /// Id of the key that seals.
    #[must_use]
    pub fn sealing_id(&self) -> &str {
        &self.sealing.id
    }

    /// Seals a secret with the first key, for one place.
    ///
    /// # Errors
    /// Nothing was sealed: there is no randomness, or the secret is absurdly long.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let RingKey { id, key } = &self.sealing;
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(NoRandomness::from)?;
        // The capacity is set first: a Vec that grows leaves a copy of the secret behind.
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_BYTES));
        text.extend_from_slice(secret);
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        cipher
            .encrypt_in_place(&XNonce::from(nonce), &associated_data(id, place), &mut *text)
            .map_err(|_| SealError::TooLong)?;
        let id_length = u8::try_from(id.len()).map_err(|_| SealError::TooLong)?;
        Ok([&[VERSION, id_length], id.as_bytes(), &nonce, &text].concat())
    }

    /// Opens a blob that was found at `place`.
    ///
    /// # Errors
    /// The key is missing, the blob was tampered with or moved, or it is not a sealed blob.
    pub fn open(&self, place: Place<'_>, blob: &[u8]) -> Result<SecretBytes, OpenError> {
        let (id, nonce, sealed) = split(blob)?;
        let Some(RingKey { key, .. }) = self.keys().find(|key| key.id == id) else {
            return Err(OpenError::UnknownKey {
                id: id.to_owned(),
                known: self.ids(),
            });
        };
        let mut text = Zeroizing::new(sealed.to_vec());
        let cipher = XChaCha20Poly1305::new(&Key::from(**key));
        match cipher.decrypt_in_place(&XNonce::from(nonce), &associated_data(id, place), &mut *text) {
            Ok(()) => Ok(SecretBytes(text)),
            Err(_) => Err(OpenError::Tampered {
                table: place.table.to_owned(),
                column: place.column.to_owned(),
                row: place.row.to_owned(),
                id: id.to_owned(),
            }),
        }
    }

    /// Adds the keys of another ring, which open and do not seal.
    ///
    /// # Errors
    /// Another key of the same id is here already.
    pub fn and_open_with(mut self, other: &KeyRing) -> Result<Self, KeyRingError> {
        for theirs in other.keys() {
            let known = self.keys().find(|ours| ours.id == theirs.id);
            match known.map(|ours| ours.key == theirs.key) {
                None => self.older.push(theirs.clone()),
                Some(true) => {}
                Some(false) => {
                    return Err(KeyRingError::Twice {
                        id: theirs.id.clone(),
                    });
                }
            }
        }
        Ok(self)
    }

    /// Whether a key of this id is here.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.keys().any(|key| key.id == id)
    }

    /// The ids of a key that is in both rings, in this one and in the other.
    #[must_use]
    pub fn in_common<'a>(&'a self, other: &'a KeyRing) -> Option<(&'a str, &'a str)> {
        self.keys().find_map(|ours| {
            let theirs = other.keys().find(|theirs| theirs.key == ours.key)?;
            Some((ours.id.as_str(), theirs.id.as_str()))
        })
    }

    fn keys(&self) -> impl Iterator<Item = &RingKey> {
        std::iter::once(&self.sealing).chain(&self.older)
    }

    fn ids(&self) -> String {
        self.keys()
            .map(|key| key.id.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Id of the key that sealed a blob: says what must be sealed again before a key may be dropped.
///
/// # Errors
/// The bytes are not a sealed blob.
pub fn key_id_of(blob: &[u8]) -> Result<&str, OpenError> {
    split(blob).map(|(id, _, _)| id)
}

/// Bytes of base64; none for what is not. The decoder's own error names a byte of the key: it is dropped here.
fn decoded(encoded: &[u8]) -> Zeroizing<Vec<u8>> {
    BASE64
        .decode(encoded.trim_ascii())
        .map(Zeroizing::new)
        .unwrap_or_default()
}

fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn split(blob: &[u8]) -> Result<(&str, [u8; NONCE_BYTES], &[u8]), OpenError> {
    const SHORT: OpenError = OpenError::Malformed("it is too short");
    let (&version, rest) = blob.split_first().ok_or(SHORT)?;
    if version != VERSION {
        return Err(OpenError::Malformed(
            "its version is unknown to this program; a newer release may have written it",
        ));
    }
    let (&length, rest) = rest.split_first().ok_or(SHORT)?;
    let (id, rest) = rest.split_at_checked(length.into()).ok_or(SHORT)?;
    let id = std::str::from_utf8(id)
        .ok()
        .filter(|id| is_key_id(id))
        .ok_or(OpenError::Malformed("its key id is not one"))?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SHORT)?;
    if sealed.len() < TAG_BYTES {
        return Err(SHORT);
    }
    Ok((id, *nonce, sealed))
}

/// What is authenticated beside the secret. Each part carries its length, so that no two places give the
/// same bytes.
fn associated_data(id: &str, place: Place<'_>) -> Vec<u8> {
    let mut data = vec![VERSION];
    for part in [id, place.table, place.column, place.row] {
        data.extend_from_slice(&(part.len() as u64).to_be_bytes());
        data.extend_from_slice(part.as_bytes());
    }
    data
}

#[cfg(test)]
mod secret_types;
#[cfg(test)]
mod tests;

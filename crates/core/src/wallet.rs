//! XRP Ledger wallets: seed, key pair and classic address.
//!
//! A seed is 16 random bytes; its text form says which kind of key is derived from it (`s…` for
//! secp256k1, `sEd…` for ed25519). The address is a hash of the public key, in base58 with the ledger's
//! own alphabet and a checksum.

use std::fmt;

use bs58::Alphabet;
use ed25519_dalek::SigningKey;
use k256::elliptic_curve::PrimeField as _;
use k256::elliptic_curve::group::GroupEncoding as _;
use k256::{FieldBytes, ProjectivePoint, Scalar};
use ripemd::Ripemd160;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use crate::seal::{NoRandomness, SecretBytes};

const SEED_BYTES: usize = 16;
const SECP256K1_SEED: &[u8] = &[0x21];
const ED25519_SEED: &[u8] = &[0x01, 0xe1, 0x4b];
const ED25519_PUBLIC_KEY: u8 = 0xed;
const ADDRESS_VERSION: u8 = 0;
const ADDRESS_BYTES: usize = 20;

/// The kind of key that is derived from a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// What the ledger uses unless it is told otherwise.
    #[default]
    Secp256k1,
    /// By choice.
    Ed25519,
}

impl KeyType {
    /// Its name, as configuration and database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secp256k1 => "secp256k1",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why there is no wallet. No variant holds any part of a seed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The text is not a seed.
    #[error("the text is not an XRP Ledger seed (one begins with \"s\", and its checksum holds)")]
    NotASeed,
    /// No key can be derived. This does not happen for one seed in 2^127.
    #[error("no key pair can be derived from this seed: make another")]
    NoKeyPair,
    /// The operating system gave no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// A wallet: its secret seed and what follows from it. `Debug` shows the address only.
pub struct Wallet {
    seed: SecretBytes,
    key_type: KeyType,
    address: String,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address)
    }
}

impl Wallet {
    /// Makes a new wallet from the operating system's random source.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(key_type: KeyType) -> Result<Self, WalletError> {
        let mut entropy = Zeroizing::new([0_u8; SEED_BYTES]);
        getrandom::fill(entropy.as_mut_slice()).map_err(NoRandomness::from)?;
        let prefix = match key_type {
            KeyType::Secp256k1 => SECP256K1_SEED,
            KeyType::Ed25519 => ED25519_SEED,
        };
        let payload = Zeroizing::new([prefix, entropy.as_slice()].concat());
        let seed = bs58::encode(payload.as_slice())
            .with_alphabet(Alphabet::RIPPLE)
            .with_check()
            .into_string();
        Self::from_entropy(&entropy, key_type, seed.into())
    }

    /// The wallet of a seed in its text form. The key type follows from the text.
    ///
    /// # Errors
    /// The text is not a seed. The error shows nothing of it.
    pub fn from_seed(seed: &str) -> Result<Self, WalletError> {
        // The decoder's own error names characters of the seed: it is dropped here.
        let decoded = bs58::decode(seed)
            .with_alphabet(Alphabet::RIPPLE)
            .with_check(None)
            .into_vec();
        let payload = Zeroizing::new(decoded.map_err(|_| WalletError::NotASeed)?);
        let (key_type, entropy) = match (
            payload.strip_prefix(ED25519_SEED),
            payload.strip_prefix(SECP256K1_SEED),
        ) {
            (Some(entropy), _) => (KeyType::Ed25519, entropy),
            (None, Some(entropy)) => (KeyType::Secp256k1, entropy),
            (None, None) => return Err(WalletError::NotASeed),
        };
        let entropy: &[u8; SEED_BYTES] = entropy.try_into().map_err(|_| WalletError::NotASeed)?;
        Self::from_entropy(entropy, key_type, seed.into())
    }

    fn from_entropy(
        entropy: &[u8; SEED_BYTES],
        key_type: KeyType,
        seed: SecretBytes,
    ) -> Result<Self, WalletError> {
        let public_key = match key_type {
            KeyType::Secp256k1 => secp256k1_public_key(entropy).ok_or(WalletError::NoKeyPair)?,
            KeyType::Ed25519 => ed25519_public_key(entropy),
        };
        Ok(Self {
            seed,
            key_type,
            address: address_of(&public_key),
        })
    }

    /// The seed in its text form: whoever has it owns the wallet.
    #[must_use]
    pub fn seed(&self) -> &SecretBytes {
        &self.seed
    }

    /// The kind of key.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// The classic address (`r…`), which is public.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// Whether a text is a classic address, checksum included.
#[must_use]
pub fn is_valid_address(text: &str) -> bool {
    let decoded = bs58::decode(text)
        .with_alphabet(Alphabet::RIPPLE)
        .with_check(Some(ADDRESS_VERSION))
        .into_vec();
    decoded.is_ok_and(|payload| payload.len() == 1 + ADDRESS_BYTES)
}

/// The first half of a SHA-512 over the parts.
fn sha512_half(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hasher = Sha512::new();
    for part in parts {
        hasher.update(part);
    }
    let mut whole = Zeroizing::new([0_u8; 64]);
    whole.copy_from_slice(&hasher.finalize());
    let mut half = Zeroizing::new([0_u8; 32]);
    half.copy_from_slice(&whole[..32]);
    half
}

/// The first number, counting from 0, whose hash with `prefix` is a valid private key.
fn first_scalar(prefix: &[&[u8]]) -> Option<Zeroizing<Scalar>> {
    (0..=u32::MAX).find_map(|counter| {
        let counter = counter.to_be_bytes();
        let parts: Vec<&[u8]> = prefix.iter().copied().chain([&counter[..]]).collect();
        let scalar = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*sha512_half(&parts))));
        scalar
            .filter(|scalar| *scalar != Scalar::ZERO)
            .map(Zeroizing::new)
    })
}

/// The ledger derives a family's root pair from the seed, and from it the first account's: root + tweak.
fn secp256k1_public_key(entropy: &[u8]) -> Option<Vec<u8>> {
    const FIRST_ACCOUNT: [u8; 4] = [0; 4];
    let root = first_scalar(&[entropy])?;
    let root_public = (ProjectivePoint::GENERATOR * *root).to_affine().to_bytes();
    let tweak = first_scalar(&[&root_public, &FIRST_ACCOUNT])?;
    let account = Zeroizing::new(*root + *tweak);
    Some(
        (ProjectivePoint::GENERATOR * *account)
            .to_affine()
            .to_bytes()
            .to_vec(),
    )
}

fn ed25519_public_key(entropy: &[u8]) -> Vec<u8> {
    let public_key = SigningKey::from_bytes(&sha512_half(&[entropy])).verifying_key();
    [&[ED25519_PUBLIC_KEY][..], public_key.as_bytes()].concat()
}

fn address_of(public_key: &[u8]) -> String {
    let account = Ripemd160::digest(Sha256::digest(public_key));
    bs58::encode(account)
        .with_alphabet(Alphabet::RIPPLE)
        .with_check_version(ADDRESS_VERSION)
        .into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "snoPBrXtMeMyMHUVTgbuqAfg1SUTb";
    const ADDRESS: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";

    #[test]
    fn the_known_seed_gives_the_known_address() {
        let wallet = Wallet::from_seed(SEED).unwrap();
        assert_eq!(
            (wallet.address(), wallet.key_type()),
            (ADDRESS, KeyType::Secp256k1)
        );
        assert_eq!(wallet.seed().expose_str(), Ok(SEED));
    }

    #[test]
    fn a_new_wallet_is_the_one_that_its_seed_gives() {
        for (key_type, prefix) in [(KeyType::Secp256k1, "s"), (KeyType::Ed25519, "sEd")] {
            let wallet = Wallet::generate(key_type).unwrap();
            let seed = wallet.seed().expose_str().unwrap();
            assert!(seed.starts_with(prefix));
            let again = Wallet::from_seed(seed).unwrap();
            assert_eq!((again.address(), again.key_type()), (wallet.address(), key_type));
            assert!(is_valid_address(wallet.address()));
            assert_ne!(Wallet::generate(key_type).unwrap().address(), wallet.address());
        }
    }

    #[test]
    fn what_is_no_seed_is_refused_in_words_that_hold_none_of_it() {
        let mistyped = "snoPBrXtMeMyMHUVTgbuqAfg1SUTc";
        for text in ["", "s", mistyped, "masterpassphrase", ADDRESS, "0OIl"] {
            let error = Wallet::from_seed(text).unwrap_err();
            assert!(matches!(error, WalletError::NotASeed), "{text}");
            assert!(!format!("{error} {error:?}").contains("snoP"));
        }
    }

    #[test]
    fn debug_output_shows_the_address_and_no_seed() {
        assert_eq!(
            format!("{:?}", Wallet::from_seed(SEED).unwrap()),
            format!("Wallet({ADDRESS})")
        );
    }

    #[test]
    fn an_address_is_valid_by_its_checksum() {
        assert!(is_valid_address(ADDRESS));
        for text in [
            "",
            "r",
            "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTi",
            SEED,
            "Hb9CJAWyB4rj91VRWn96DkukG4bwdtyTh",
        ] {
            assert!(!is_valid_address(text), "{text}");
        }
    }
}

//! What a type of a secret must not be able to do is checked by the compiler: a test that does not compile is one that fails.

use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::{KeyRing, RingKey, SecretBytes};
use crate::wallet::Wallet;

/// Does not compile where the type has one of the traits: there would be two ways to read `<T as Ambiguous<_>>`.
macro_rules! lacks {
    ($type:ty: $($trait:path),+ $(,)?) => {
        const _: fn() = || { $({
            trait Ambiguous<A> { fn some() {} }
            impl<T: ?Sized> Ambiguous<()> for T {}
            #[allow(dead_code)]
            struct Has;
            impl<T: ?Sized + $trait> Ambiguous<Has> for T {}
            let _ = <$type as Ambiguous<_>>::some;
        })+ };
    };
}

// Nothing prints them, stores them, or compares them in a time that depends on what they are.
lacks!(SecretBytes: std::fmt::Display, std::fmt::LowerHex, serde::Serialize, AsRef<[u8]>, AsRef<str>, PartialEq);
lacks!(SecretBytes: std::ops::Deref, Copy, std::borrow::Borrow<[u8]>, Into<Vec<u8>>, Into<String>);
lacks!(KeyRing: std::fmt::Display, serde::Serialize, PartialEq);
lacks!(RingKey: std::fmt::Debug, std::fmt::Display, serde::Serialize, Copy);
lacks!(Wallet: std::fmt::Display, serde::Serialize, Clone, PartialEq);

// The bytes themselves are overwritten when their owner goes.
const _: fn(&SecretBytes) -> &Zeroizing<Vec<u8>> = |secret| &secret.0;
const _: fn(&RingKey) -> &Zeroizing<[u8; 32]> = |key| &key.key;
const _: fn(&Wallet) -> &SecretBytes = Wallet::seed;
const _: fn() = || {
    fn zeroized<T: ZeroizeOnDrop>() {}
    zeroized::<Zeroizing<Vec<u8>>>();
    zeroized::<Zeroizing<[u8; 32]>>();
};

#[test]
fn debug_of_a_secret_says_that_it_is_hidden() {
    let line = KeyRing::generate_line("k1").unwrap();
    let text = line.expose_str().unwrap().to_owned();
    let ring = KeyRing::parse(&text).unwrap();
    let wallet = Wallet::generate(crate::wallet::KeyType::Ed25519).unwrap();
    let shown = format!(
        "{line:?} {line:#?} {ring:?} {ring:#?} {wallet:?} {wallet:#?} {:?}",
        wallet.seed()
    );
    assert!(shown.contains("hidden") && shown.contains("k1") && shown.contains(wallet.address()));
    assert!(!shown.contains(&text[3..20]) && !shown.contains(wallet.seed().expose_str().unwrap()));
}

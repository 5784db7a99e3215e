//! What is missing, or does not open, is named.

use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::{KeyType, Wallet};
use gatewayzen_core::{Facts, StepError};

use crate::bench::{Bench, permanent};
use crate::simulated::SimulatedGatewayd;

#[tokio::test]
async fn a_missing_sealing_key_is_named_and_is_the_trouble_of_this_row_alone() {
    let mut bench = Bench::new().await;
    let address = bench.take().await.unwrap();
    let ring = bench.ring.clone();
    bench.ring = KeyRing::generate_line("another")
        .unwrap()
        .expose_str()
        .unwrap()
        .to_owned();
    let before = bench.calls().len();
    let told = match bench.take().await {
        Err(StepError::Transient(problem)) => problem.sentence,
        other => panic!("{other:?}"),
    };
    assert!(
        told.contains("cold wallet's seed")
            && told.contains("key \"test\"")
            && told.contains("it has: another"),
        "{told}"
    );
    assert_eq!(bench.calls().len(), before);
    // The new key first, the old one behind it: as in a rotation.
    bench.ring = format!("{}\n{ring}", bench.ring);
    assert_eq!(bench.take().await.unwrap(), address);
}

#[tokio::test]
async fn an_address_whose_seed_does_not_open_is_shown_to_nobody() {
    // Moved from another row; of another wallet; no seed at all.
    let (kept, other) = (
        Wallet::generate(KeyType::Ed25519).unwrap(),
        Wallet::generate(KeyType::Ed25519).unwrap(),
    );
    let cases = [
        (
            "7/1",
            kept.seed().expose(),
            "it was changed, moved from another row",
        ),
        ("", other.seed().expose(), other.address()),
        ("", b"nonsense", "is not a seed"),
    ];
    for (row, secret, expected) in cases {
        let bench = Bench::new().await;
        let own = format!("{}/1", bench.lease.id);
        let place = Place::wallet_seed(if row.is_empty() { &own } else { row });
        let sealed = bench.keys().seal(place, secret).unwrap();
        let repository = &bench.repository;
        repository
            .keep_wallet(&bench.lease, kept.address(), "ed25519", &sealed)
            .await
            .unwrap();
        let told = permanent(bench.take().await);
        assert!(told.contains(expected), "{told} should say {expected}");
        assert_eq!(bench.calls().len(), 0);
    }
}

#[tokio::test]
async fn what_the_steps_before_must_have_left_is_asked_for_by_name() {
    let fingerprint = SimulatedGatewayd::start().await.fingerprint.to_string();
    let there = || Some("127.0.0.1".to_owned());
    let cases = [
        (
            Facts {
                public_address: there(),
                ..Facts::default()
            },
            "no private address",
        ),
        (
            Facts {
                private_address: there(),
                ..Facts::default()
            },
            "no certificate is kept",
        ),
        (
            Facts {
                private_address: there(),
                tls_fingerprint: Some("AB:CD".into()),
                ..Facts::default()
            },
            "\"AB:CD\" is not a SHA-256 fingerprint",
        ),
        (
            Facts {
                private_address: there(),
                tls_fingerprint: Some(fingerprint),
                ..Facts::default()
            },
            "no API key is kept",
        ),
    ];
    for (facts, expected) in cases {
        let bench = Bench::with(SimulatedGatewayd::start().await, facts).await;
        let told = permanent(bench.take().await);
        assert!(told.contains(expected), "{told} should say {expected}");
    }
}

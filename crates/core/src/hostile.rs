//! Whatever stands in a job, in a sealed column or in a file of keys: no panic, and no secret in what is said of it.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::job::JobArgs;
use crate::seal::{KeyRing, Place, key_id_of};
use crate::wallet::{Wallet, is_valid_address};

/// Any JSON, also large numbers, deep nests and odd texts.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "-?[0-9]{1,30}".prop_map(Value::from),
        "00-[0-9a-f]{30,34}-[0-9a-f]{15,17}-[0-9a-f]{2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, |inner| {
        let key = prop_oneof![
            Just("generation".to_owned()),
            Just("traceparent".to_owned()),
            any::<String>()
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn arguments_of_a_job_are_read_or_refused(args in prop::collection::vec(value(), 0..4)) {
        match JobArgs::parse(&args) {
            Ok(read) => {
                prop_assert!(read.id > 0);
                prop_assert!(read.traceparent.is_none_or(|text| text.len() == 55));
            }
            // What is said of them repeats nothing of theirs.
            Err(refused) => prop_assert!(refused.to_string().len() < 300),
        }
    }

    #[test]
    fn a_blob_that_was_not_sealed_here_does_not_open(blob in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (0_u8..3, prop::collection::vec(any::<u8>(), 0..120))
            .prop_map(|(length, rest)| [&[1, length][..], b"k1", &rest].concat()),
    ]) {
        let ring = KeyRing::parse("k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let error = ring.open(Place::api_key("1"), &blob).unwrap_err();
        prop_assert!(error.to_string().len() < 400);
        let _ = key_id_of(&blob);
    }

    #[test]
    fn one_changed_byte_of_a_blob_or_its_place_is_noticed(
        secret in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), by in 1_u8..
    ) {
        let ring = KeyRing::parse("k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let mut blob = ring.seal(Place::api_key("1"), &secret).unwrap();
        let opened = ring.open(Place::api_key("1"), &blob).unwrap();
        prop_assert_eq!(opened.expose(), &secret[..]);
        prop_assert!(ring.open(Place::api_key("2"), &blob).is_err());
        prop_assert!(ring.open(Place::wallet_seed("1"), &blob).is_err());
        let at = at.index(blob.len());
        blob[at] ^= by;
        prop_assert!(ring.open(Place::api_key("1"), &blob).is_err());
    }

    #[test]
    fn a_ring_that_is_none_is_refused_without_its_keys(
        id in "[a-z0-9._-]{0,40}", key in "[A-Za-z0-9+/=]{12,60}", more in any::<String>()
    ) {
        for text in [format!("{id}:{key}\n{more}"), format!("{key}\n{more}"), format!("{more}\n{key}:{id}"), more.clone()] {
            if let Err(error) = KeyRing::parse(&text) {
                let said = format!("{error} {error:?}");
                // The part of a line in front of its colon is an id, which is no secret.
                prop_assert!(!said.contains(&key) || text.contains(&format!("{key}:")), "{said}");
                prop_assert!(said.len() < 800, "{said}");
            }
        }
    }

    #[test]
    fn a_text_that_is_no_seed_or_address_is_refused(text in prop_oneof![
        any::<String>(),
        "[rs][1-9A-HJ-NP-Za-km-z]{20,40}",
        "sEd[1-9A-HJ-NP-Za-km-z]{20,40}",
        "[1-9A-HJ-NP-Za-km-z]{1,2000}",
    ]) {
        if let Err(error) = Wallet::from_seed(&text) {
            let said = format!("{error} {error:?}");
            prop_assert!(text.len() < 12 || !said.contains(&text));
        }
        if is_valid_address(&text) {
            prop_assert!(text.starts_with('r') && text.len() <= 35);
        }
    }
}

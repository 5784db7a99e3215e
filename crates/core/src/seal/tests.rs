use super::*;

const SEED: &[u8] = b"snoPBrXtMeMyMHUVTgbuqAfg1SUTb";
const PLACE: Place<'static> = Place {
    table: "wallets",
    column: "seed",
    row: "42",
};

fn line(id: &str) -> String {
    KeyRing::generate_line(id)
        .unwrap()
        .expose_str()
        .unwrap()
        .to_owned()
}

fn ring(lines: &[&str]) -> KeyRing {
    KeyRing::parse(&lines.join("\n")).unwrap()
}

#[test]
fn a_sealed_secret_opens_in_its_place_and_does_not_show() {
    let ring = ring(&[&line("a")]);
    let blob = ring.seal(PLACE, SEED).unwrap();
    assert_eq!(ring.open(PLACE, &blob).unwrap().expose(), SEED);
    assert_eq!(blob.len(), 1 + 1 + 1 + NONCE_BYTES + SEED.len() + TAG_BYTES);
    assert!(
        !blob
            .windows(4)
            .any(|window| SEED.windows(4).any(|secret| secret == window))
    );
    assert_ne!(
        blob,
        ring.seal(PLACE, SEED).unwrap(),
        "each sealing has a nonce of its own"
    );
    assert_eq!(key_id_of(&blob), Ok("a"));
}

#[test]
fn a_blob_moved_to_another_row_column_or_table_does_not_open() {
    let ring = ring(&[&line("a")]);
    let blob = ring.seal(PLACE, SEED).unwrap();
    let elsewhere = [
        Place { row: "43", ..PLACE },
        Place {
            column: "api_key",
            ..PLACE
        },
        Place {
            table: "launches",
            ..PLACE
        },
        // The same letters, divided in another way.
        Place {
            table: "walletss",
            column: "eed",
            row: "42",
        },
    ];
    for place in elsewhere {
        assert!(
            matches!(ring.open(place, &blob), Err(OpenError::Tampered { .. })),
            "{place:?}"
        );
    }
    let told = ring.open(elsewhere[0], &blob).unwrap_err().to_string();
    assert!(
        told.contains("wallets.seed of row 43") && told.contains("\"a\""),
        "{told}"
    );
}

#[test]
fn no_flipped_bit_and_no_cut_goes_unseen() {
    let ring = ring(&[&line("a"), &line("b")]);
    let blob = ring.seal(PLACE, SEED).unwrap();
    for index in 0..blob.len() {
        for bit in 0..8 {
            let mut changed = blob.clone();
            changed[index] ^= 1 << bit;
            assert!(ring.open(PLACE, &changed).is_err(), "bit {bit} of byte {index}");
        }
        assert!(ring.open(PLACE, &blob[..index]).is_err(), "cut to {index} bytes");
    }
}

#[test]
fn a_swapped_key_id_does_not_open_even_with_the_same_key() {
    let key = line("a").split_once(':').unwrap().1.to_owned();
    let ring = ring(&[&format!("a:{key}"), &format!("b:{key}")]);
    let mut blob = ring.seal(PLACE, SEED).unwrap();
    assert_eq!(blob[2], b'a');
    blob[2] = b'b';
    assert!(matches!(ring.open(PLACE, &blob), Err(OpenError::Tampered { id, .. }) if id == "b"));
}

#[test]
fn an_old_key_still_opens_and_the_first_one_seals() {
    let (old, new) = (line("2025"), line("2026"));
    let blob = ring(&[&old]).seal(PLACE, SEED).unwrap();
    let both = ring(&["# keys of the fleet", "", &new, &old]);
    assert_eq!(both.open(PLACE, &blob).unwrap().expose(), SEED);
    assert_eq!(both.sealing_id(), "2026");
    assert_eq!(key_id_of(&both.seal(PLACE, SEED).unwrap()), Ok("2026"));
    let comma = KeyRing::parse(&format!(" {new} , {old} ")).unwrap();
    assert_eq!(comma.open(PLACE, &blob).unwrap().expose(), SEED);
}

#[test]
fn a_missing_key_is_named_with_the_keys_that_are_there() {
    let blob = ring(&[&line("gone")]).seal(PLACE, SEED).unwrap();
    let told = ring(&[&line("b"), &line("c")]).open(PLACE, &blob).unwrap_err();
    assert_eq!(
        told,
        OpenError::UnknownKey {
            id: "gone".into(),
            known: "b, c".into()
        }
    );
    assert!(told.to_string().contains("put that key back"));
}

#[test]
fn what_is_no_blob_is_malformed() {
    let ring = ring(&[&line("a")]);
    for bytes in [
        &b""[..],
        b"\x01",
        b"\x01\x00",
        b"\x02\x01a",
        b"\x01\xffa",
        b"snoPBrXtMeMyMHUVTgbuqAfg1SUTb",
    ] {
        assert!(
            matches!(ring.open(PLACE, bytes), Err(OpenError::Malformed(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_bad_key_ring_is_refused_in_words_that_hold_no_key() {
    let good = line("a");
    let key = good.split_once(':').unwrap().1;
    let bad = [
        (String::new(), "has no key"),
        ("# only a comment\n".to_owned(), "has no key"),
        (key.to_owned(), "entry 1 of the key ring is not KEYID:KEY"),
        (
            format!("{good}\n{key}:b"),
            "entry 2 of the key ring: a key id is 1 to 32",
        ),
        (format!(":{key}"), "a key id is"),
        (
            format!("b:{}", &key[..40]),
            "key \"b\" of the key ring is not 32 bytes",
        ),
        (format!("b:{key}{key}"), "key \"b\""),
        (format!("{good}\n{good}"), "key \"a\" is in the key ring twice"),
    ];
    for (text, expected) in bad {
        let error = KeyRing::parse(&text).unwrap_err();
        assert!(
            error.to_string().contains(expected),
            "{error} should say {expected}"
        );
        assert!(
            !format!("{error} {error:?}").contains(&key[..8]),
            "{error:?} shows a key"
        );
    }
    assert!(matches!(
        KeyRing::generate_line("a b"),
        Err(KeyRingError::BadKeyId { .. })
    ));
}

#[test]
fn debug_output_shows_no_secret() {
    let good = line("a");
    let shown = format!(
        "{:?} {:?}",
        KeyRing::parse(&good).unwrap(),
        SecretBytes::from(good.as_str())
    );
    assert_eq!(shown, "KeyRing(a) SecretBytes(hidden)");
}

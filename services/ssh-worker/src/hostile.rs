//! Whatever a host prints or shows of itself: no panic, no growth, nothing believed that is not of the right form.

use proptest::prelude::*;
use russh::keys::PublicKey;

use crate::parse;
use crate::remote::quote;
use crate::session::Ssh;

/// Bytes as hosts print them: any at all, and lines that are nearly right.
fn output() -> impl Strategy<Value = Vec<u8>> {
    let nearly = prop_oneof![
        Just("info: ".to_owned()),
        Just("version=".to_owned()),
        Just("commit=".to_owned()),
        Just("tag_commit=".to_owned()),
        Just("-----BEGIN CERTIFICATE-----".to_owned()),
        Just("-----END CERTIFICATE-----".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{1b}[31m".to_owned()),
        Just("\u{202e}".to_owned()),
        "[0-9a-f]{40}",
        "[0-9]{1,12}",
        "[A-Za-z0-9+/=]{1,80}",
        "r[1-9A-HJ-NP-Za-km-z]{24,34}",
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        prop::collection::vec(nearly, 0..24).prop_map(|parts| parts.concat().into_bytes()),
    ]
}

proptest! {
    #[test]
    fn what_a_host_prints_is_read_or_refused(output in output()) {
        if let Some(key) = parse::api_key(&output) {
            prop_assert!((1..=512).contains(&key.expose().len()));
            prop_assert!(key.expose().iter().all(u8::is_ascii_graphic));
        }
        let _ = parse::certificate(&output);
        if let Some(release) = parse::release(&output) {
            let parts = [&release.version, &release.commit];
            prop_assert!(parts.iter().all(|text| text.len() <= 100 && text.chars().all(|c| c.is_ascii_graphic())));
        }
        if let Ok(Some(wallet)) = parse::wallet(&output) {
            prop_assert!(wallet.starts_with('r') && wallet.len() <= 35);
        }
        if let Ok(pids) = parse::pids(&output) {
            prop_assert!(!pids.contains(&0));
        }
    }

    #[test]
    fn what_is_shown_is_one_short_line_without_control(output in output()) {
        let shown = parse::shown(&output);
        prop_assert!(shown.chars().count() <= 301);
        prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }

    #[test]
    fn a_host_key_or_a_private_key_that_is_none_is_refused(text in prop_oneof![
        any::<String>(),
        "ssh-(ed25519|rsa|dss) [A-Za-z0-9+/=]{0,200}( .{0,20})?",
        "-----BEGIN (OPENSSH|RSA|EC|ENCRYPTED)? ?PRIVATE KEY-----\n([A-Za-z0-9+/=]{0,70}\n){0,6}-----END (OPENSSH|RSA|EC|ENCRYPTED)? ?PRIVATE KEY-----\n",
    ]) {
        let _ = PublicKey::from_openssh(text.trim());
        let settings = gatewayzen_bootstrap::settings::load(None).unwrap().ssh;
        if let Err(sentence) = Ssh::new(&settings, text.as_bytes()) {
            prop_assert!(sentence.len() < 200, "{sentence}");
        }
    }

    /// As a POSIX shell reads it: inside single quotes everything is itself, and only `\'` stands outside of them.
    #[test]
    fn a_quoted_text_is_one_word_of_a_shell(text in any::<String>()) {
        let quoted = quote(&text);
        let mut read = String::new();
        let mut rest = quoted.as_str();
        while let Some(inside) = rest.strip_prefix('\'') {
            let (part, after) = inside.split_once('\'').unwrap();
            read.push_str(part);
            rest = after;
            if let Some(after) = rest.strip_prefix(r"\'") {
                read.push('\'');
                rest = after;
            }
        }
        prop_assert_eq!(rest, "");
        prop_assert_eq!(read, text);
    }
}

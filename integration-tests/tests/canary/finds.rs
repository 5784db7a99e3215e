//! The search finds what it is for: a test that could not fail would prove nothing.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::secrets::{Secrets, forms};

/// One with every kind of byte, `+` and `/` in its base64.
fn planted() -> Secrets {
    let mut secrets = Secrets::default();
    let bytes: Vec<u8> = (0..32_u8).map(|n| n.wrapping_mul(37) ^ 0xfb).collect();
    secrets.add("bytes", bytes);
    secrets.add_hex(
        "api key",
        "5ec3e7b1a9d84c66f00dbabe0123456789abcdef5ec3e7b1a9d84c66f00dbabe",
    );
    secrets.add("password", "correctHorse7batteryStaple");
    let key =
        russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519);
    let text = key
        .unwrap()
        .to_openssh(russh::keys::ssh_key::LineEnding::LF)
        .unwrap();
    secrets.add_private_key("ssh key", &text);
    secrets
}

#[test]
fn every_form_of_a_planted_secret_is_found_in_a_file() {
    let secrets = planted();
    let search = secrets.search();
    let folder = tempfile::tempdir().unwrap();
    let found = |name: &str, content: &[u8]| {
        let path = folder.path().join("planted");
        std::fs::write(
            &path,
            [b"2026-11-24 INFO x=\"", content, b"\" and so on\n"].concat(),
        )
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let hits = search.find(&bytes);
        assert!(
            hits.iter().any(|hit| hit.starts_with(name)),
            "{name} is not found in {hits:?}"
        );
    };
    for name in secrets.names() {
        let secret = secrets.get(name);
        found(name, secret);
        found(name, hex::encode(secret).as_bytes());
        found(name, hex::encode_upper(secret).as_bytes());
        found(name, format!("{secret:?}").as_bytes());
        found(name, format!("{secret:#?}").as_bytes());
        // Whatever stands around it before all of it is encoded.
        for before in ["", "x", "xy", "xyz", "gatewayzen:"] {
            for after in ["", "x", "xy"] {
                let whole = [before.as_bytes(), secret, after.as_bytes()].concat();
                for encoded in [STANDARD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                    found(name, encoded.as_bytes());
                    // As PEM, as JSON and as indented YAML break it.
                    for (width, end) in [(64, "\n"), (70, "\\n"), (76, "\r\n    ")] {
                        let lines: Vec<&str> = encoded
                            .as_bytes()
                            .chunks(width)
                            .map(|line| std::str::from_utf8(line).unwrap())
                            .collect();
                        found(name, lines.join(end).as_bytes());
                    }
                }
            }
        }
    }
}

#[test]
fn a_private_key_is_found_in_its_own_file_and_in_user_data() {
    let mut secrets = Secrets::default();
    let key = instance_key();
    secrets.add_private_key("ssh key", &key);
    let search = secrets.search();
    let indented: String = key.lines().map(|line| format!("    {line}\n")).collect();
    for text in [
        key.clone(),
        indented.clone(),
        STANDARD.encode(&indented),
        STANDARD.encode(format!("x{indented}")),
        serde_json::to_string(&key).unwrap(),
    ] {
        assert!(
            !search.find(text.as_bytes()).is_empty(),
            "{}",
            text.lines().next().unwrap()
        );
    }
}

fn instance_key() -> String {
    let key =
        russh::keys::PrivateKey::random(&mut russh::keys::key::safe_rng(), russh::keys::Algorithm::Ed25519);
    key.unwrap()
        .to_openssh(russh::keys::ssh_key::LineEnding::LF)
        .unwrap()
        .to_string()
}

#[test]
fn nothing_is_found_where_there_is_nothing() {
    let secrets = planted();
    let search = secrets.search();
    let text: Vec<u8> = (0..1 << 20).map(|_| fastrand::u8(..)).collect();
    assert!(search.find(&text).is_empty());
    assert!(search.find(STANDARD.encode(&text).as_bytes()).is_empty());
    for name in secrets.names() {
        assert!(forms(secrets.get(name)).len() >= 8, "{name} has its forms");
    }
}

/// As a careless line in a step would.
#[test]
fn a_leak_in_a_log_is_found() {
    let secrets = planted();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("service.log");
    let file = std::fs::File::create(&path).unwrap();
    let layer = tracing_subscriber::fmt::layer().json().with_writer(file);
    let key = String::from_utf8(secrets.get("api key").to_vec()).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        tracing::info!(request = ?format!("Authorization: Basic {}", STANDARD.encode(format!("gatewayzen:{key}"))), "sent");
    });
    let hits: Vec<String> = secrets
        .search()
        .find(&std::fs::read(path).unwrap())
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert!(hits.iter().any(|hit| hit == "api key in base64"), "{hits:?}");
}

//! The pair with which gatewayd serves HTTPS.

use std::fs;

use ssh_worker::parse;
use ssh_worker::remote::Command;

use crate::home::{Home, mode};

#[test]
fn tls_makes_a_private_pair_once_and_keeps_it() {
    let home = Home::new();
    let first = home.run(Command::Tls, None);
    assert_eq!(first.status, 0);
    let fingerprint = parse::certificate(&first.stdout).expect("a certificate");
    let pair = home.0.path().join(".gatewayzen/tls");
    assert_eq!(
        (
            mode(&home.0.path().join(".gatewayzen")),
            mode(&pair),
            mode(&pair.join("key.pem"))
        ),
        (0o700, 0o700, 0o600)
    );
    let key = fs::read(pair.join("key.pem")).unwrap();
    // What a crash in the middle of making another pair would leave.
    fs::create_dir(pair.with_extension("new")).unwrap();
    fs::write(pair.with_extension("new").join("key.pem"), "half").unwrap();
    assert_eq!(
        parse::certificate(&home.run(Command::Tls, None).stdout),
        Some(fingerprint)
    );
    assert_eq!(fs::read(pair.join("key.pem")).unwrap(), key);
}

#[test]
fn tls_never_uses_half_a_pair() {
    let home = Home::new();
    let pair = home.0.path().join(".gatewayzen/tls");
    fs::create_dir_all(&pair).unwrap();
    for (key, certificate) in [
        (Some("key"), None),
        (Some("key"), Some("")),
        (Some(""), Some("certificate")),
    ] {
        let put = |name: &str, text: Option<&str>| match text {
            Some(text) => fs::write(pair.join(name), text).unwrap(),
            None => fs::remove_file(pair.join(name)).unwrap_or_default(),
        };
        put("key.pem", key);
        put("certificate.pem", certificate);
        let made = home.run(Command::Tls, None);
        assert!(parse::certificate(&made.stdout).is_some());
        assert!(
            fs::read_to_string(pair.join("key.pem"))
                .unwrap()
                .contains("PRIVATE KEY")
        );
    }
}

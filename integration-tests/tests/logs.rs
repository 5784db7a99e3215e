//! No secret leaves by a log, whatever the log is set to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options};

/// What a text looks like within a longer one that is in base64: its three alignments, without the ends that the
/// neighbours have a part in.
fn within_base64(text: &str) -> Vec<String> {
    let alignments = 0..3;
    alignments
        .map(|before| {
            let padded = [vec![b'-'; before], text.as_bytes().to_vec()].concat();
            let encoded = BASE64.encode(&padded[..padded.len() / 3 * 3]);
            encoded[(before * 8).div_ceil(6)..].to_owned()
        })
        .collect()
}

/// The forms in which a private key in OpenSSH's format, or user data that holds one, would show.
fn private_key_forms() -> Vec<String> {
    let mut forms = vec![
        "OPENSSH PRIVATE KEY".to_owned(),
        "OPENSSH+PRIVATE+KEY".to_owned(),
        "OPENSSH%20PRIVATE%20KEY".to_owned(),
        "ed25519_private".to_owned(),
    ];
    forms.extend(within_base64("OPENSSH PRIVATE KEY"));
    forms.extend(within_base64("ed25519_private"));
    // Every OpenSSH private key begins with this in its own base64.
    forms.push("b3BlbnNzaC1rZXktdjEA".to_owned());
    forms
}

/// A text as Rust's `Debug` shows it as bytes.
fn as_numbers(text: &str) -> String {
    let numbers: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    numbers.join(", ")
}

#[test]
fn the_forms_find_a_key_in_user_data() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\n    b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAA";
    for before in ["", "x", "xx"] {
        let user_data = BASE64.encode(format!(
            "{before}#cloud-config\nssh_keys:\n  ed25519_private: |\n    {key}"
        ));
        let found = private_key_forms()
            .iter()
            .filter(|form| user_data.contains(*form))
            .count();
        assert_eq!(found, 2, "{user_data}");
    }
}

#[tokio::test]
async fn the_most_talkative_log_shows_no_secret() {
    // The second filter names what the first could be thought to leave out.
    for filter in [
        "trace",
        "trace,aws_smithy_runtime::client=trace,aws_sdk_ec2=trace,russh::client=trace",
    ] {
        let bed = Bed::new(Options {
            settings: format!("telemetry.log = \"{filter}\""),
            ..Options::default()
        })
        .await;
        // The AWS SDK shows the body of what it signs when it is asked to by this variable.
        let services = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"]
            .map(|name| bed.start_with(name, &[("LOG_SIGNABLE_BODY", "true")]));
        let id = bed.launch("acme").await;
        bed.reached(id, State::Live).await;
        let key = bed.fleet.hosts()[0].api_key.clone().unwrap();
        let mut secrets = private_key_forms();
        secrets.extend(within_base64(&key));
        secrets.push(key);
        let numbers: Vec<String> = secrets.iter().map(|secret| as_numbers(secret)).collect();
        secrets.extend(numbers);
        for service in &services {
            let log = service.log();
            assert!(
                log.contains("TRACE") || log.contains("DEBUG"),
                "{} logs little:\n{log}",
                service.name
            );
            for secret in &secrets {
                let line = log.lines().find(|line| line.contains(secret));
                // The line itself is not printed: it holds a secret.
                let from = line.map(|line| line.chars().take(100).collect::<String>());
                assert_eq!(from, None, "{} shows {}… at {filter}", service.name, &secret[..8]);
            }
        }
    }
}

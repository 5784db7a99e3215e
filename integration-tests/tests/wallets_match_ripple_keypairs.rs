//! The wallets are judged by an independent program: npm's `ripple-keypairs`.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use gatewayzen_core::wallet::{KeyType, Wallet};
use integration_tests::harness::npm_folder;

const SEEDS: usize = 1000;

#[tokio::test]
async fn a_thousand_seeds_of_both_key_types_match_ripple_keypairs() {
    let judge = npm_folder("ripple-keypairs").await;
    for key_type in [KeyType::Secp256k1, KeyType::Ed25519] {
        let wallets: Vec<Wallet> = (0..SEEDS).map(|_| Wallet::generate(key_type).unwrap()).collect();
        let judged = judge_addresses(&judge, &wallets);
        assert_eq!(judged.len(), SEEDS);
        for (wallet, expected) in wallets.iter().zip(&judged) {
            // These seeds are this test's own: showing one makes a failure reproducible.
            let seed = wallet.seed().expose_str().unwrap();
            assert_eq!(wallet.address(), expected, "{key_type} seed {seed}");
        }
    }
}

fn judge_addresses(judge: &Path, wallets: &[Wallet]) -> Vec<String> {
    let mut node = Command::new("node")
        .arg("judge.mjs")
        .current_dir(judge)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node must be installed: this test compares with an npm package");
    let seeds: Vec<&str> = wallets
        .iter()
        .map(|wallet| wallet.seed().expose_str().unwrap())
        .collect();
    let mut stdin = node.stdin.take().unwrap();
    // A thread of its own: node answers while it reads, and would block on a full pipe.
    let input = seeds.join("\n");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = node.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the judge failed: {output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.lines().map(str::to_owned).collect()
}

//! The wallets are judged by an independent program: npm's `ripple-keypairs`.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use gatewayzen_core::wallet::{KeyType, Wallet};

const SEEDS: usize = 1000;

#[test]
fn a_thousand_seeds_of_both_key_types_match_ripple_keypairs() {
    let judge = installed_judge();
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

/// The judge's folder, outside the tracked tree, with its packages installed as the lock file says.
fn installed_judge() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = tests.join("ripple-keypairs");
    let folder = tests.join("../.dev/ripple-keypairs");
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json", "judge.mjs"] {
        std::fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    let lock = std::fs::read(source.join("package-lock.json")).unwrap();
    // Written after npm has ended, so an installation that was interrupted is made again.
    let stamp = folder.join("installed.json");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return folder;
    }
    let npm = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .expect("npm must be installed: this test compares with an npm package");
    let said = String::from_utf8_lossy(&npm.stderr);
    assert!(npm.status.success(), "npm ci failed: {said}");
    std::fs::write(&stamp, lock).unwrap();
    folder
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

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Cursor;

use uuid::Uuid;

use super::{BackupError, BackupWriter, Summary, read};
use crate::seal::KeyRing;
use crate::wallet::{KeyType, Wallet};

fn ring(ids: &[&str]) -> KeyRing {
    let lines: Vec<String> = ids
        .iter()
        .map(|id| {
            let line = KeyRing::generate_line(id).unwrap();
            line.expose_str().unwrap().to_owned()
        })
        .collect();
    KeyRing::parse(&lines.join("\n")).unwrap()
}

/// A fleet, its backup keys, its wallets, and the backup of them.
struct Story {
    fleet: Uuid,
    keys: KeyRing,
    wallets: Vec<Wallet>,
    file: String,
}

fn story(count: usize) -> Story {
    let (fleet, keys) = (Uuid::new_v4(), ring(&["b1"]));
    let kinds = [KeyType::Secp256k1, KeyType::Ed25519];
    let wallets: Vec<Wallet> = (0..count)
        .map(|n| Wallet::generate(kinds[n % 2]).unwrap())
        .collect();
    let mut writer = BackupWriter::new(Vec::new(), fleet, &keys).unwrap();
    for (n, wallet) in wallets.iter().enumerate() {
        writer.add(n as i64 + 1, &format!("gateway-{n}"), wallet).unwrap();
    }
    let (file, written) = writer.finish().unwrap();
    assert_eq!(written, count as u64);
    Story {
        fleet,
        keys,
        wallets,
        file: String::from_utf8(file).unwrap(),
    }
}

impl Story {
    fn read(&self, file: &str) -> Result<Summary, BackupError> {
        read(Cursor::new(file), &self.keys, Some(self.fleet), |_| {})
    }

    fn refusal(&self, file: &str) -> String {
        self.read(file).unwrap_err().to_string()
    }

    fn lines(&self) -> Vec<&str> {
        self.file.split_inclusive('\n').collect()
    }
}

#[test]
fn what_was_written_is_read_back_and_shows_no_seed() {
    for count in [0, 1, 5] {
        let story = story(count);
        let mut found = Vec::new();
        let summary = read(Cursor::new(&story.file), &story.keys, None, |opened| {
            found.push((opened.gatewayd, opened.name, opened.wallet));
        })
        .unwrap();
        assert_eq!((summary.fleet, summary.wallets), (story.fleet, count as u64));
        assert_eq!((summary.key.as_str(), summary.digest.len()), ("b1", 64));
        assert_eq!(found.len(), count);
        for (n, (id, name, wallet)) in found.iter().enumerate() {
            assert_eq!(
                (*id, name.as_str()),
                (n as i64 + 1, format!("gateway-{n}").as_str())
            );
            assert_eq!(wallet.address(), story.wallets[n].address());
            assert_eq!(wallet.seed().expose(), story.wallets[n].seed().expose());
            assert!(!story.file.contains(wallet.seed().expose_str().unwrap()));
        }
    }
}

#[test]
fn each_way_to_spoil_a_backup_has_its_sentence() {
    let story = story(3);
    let lines = story.lines();
    let says = |file: String, expected: &str| {
        let refusal = story.refusal(&file);
        assert!(refusal.contains(expected), "{refusal}");
    };
    says(String::new(), "not a backup");
    says("hello\n".into(), "not a backup");
    says(
        story.file.replacen("\"version\":1", "\"version\":2", 1),
        "version 2",
    );
    says(lines[..4].concat(), "cut off after line 4");
    says(story.file[..story.file.len() - 1].into(), "cut off after line 4");
    says([lines[0], lines[1], lines[3], lines[4]].concat(), "not whole");
    says(
        [lines[0], lines[2], lines[1], lines[3], lines[4]].concat(),
        "not whole",
    );
    says([&lines[..4], &lines[3..]].concat().concat(), "not whole");
    says(story.file.replacen("gateway-1", "gateway-9", 1), "not whole");
    says(
        story.file.replacen("\"wallets\":3", "\"wallets\":2", 1),
        "not whole",
    );
    says(story.file.clone() + "\n", "after the trailer");
    says(
        story.file.replacen("\"gatewayd\":2", "\"gatewayd\":9", 1),
        "line 3 of the backup: the seed of r",
    );
    says(
        story
            .file
            .replacen("\"key_type\":\"secp256k1\"", "\"key_type\":\"ed25519\"", 1),
        "line 2 of the backup: the seed is not that of r",
    );
    says(
        story.file.replacen("\"seed\":\"", "\"seed\":\"!", 1),
        "line 2 of the backup is neither",
    );
    says(
        [lines[0], &"x".repeat(10_000), "\n"].concat(),
        "line 2 of the backup is neither",
    );
}

#[test]
fn another_fleet_another_key_and_a_missing_key_are_told_apart() {
    let story = story(1);
    let others = Uuid::new_v4();
    let wrong = read(Cursor::new(&story.file), &story.keys, Some(others), |_| {}).unwrap_err();
    assert!(
        wrong
            .to_string()
            .contains(&format!("this database is of fleet {others}"))
    );
    let wrong = read(Cursor::new(&story.file), &ring(&["b2", "b3"]), None, |_| {}).unwrap_err();
    assert!(
        wrong
            .to_string()
            .contains("key \"b1\", which is not among the backup keys (they are: b2, b3)")
    );
    let wrong = read(Cursor::new(&story.file), &ring(&["b1"]), None, |_| {}).unwrap_err();
    assert!(wrong.to_string().contains("another key has this id now"));
}

/// Whatever is done to the bytes of a backup, it is refused or gives exactly the wallets that were put in, and never panics.
#[test]
fn a_spoilt_backup_never_passes() {
    let story = story(3);
    let (good, mut random) = (story.file.as_bytes(), fastrand::Rng::with_seed(7));
    let whole = story.read(&story.file).unwrap();
    for _ in 0..2_000 {
        let mut bytes = good.to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] ^= 1 << random.u8(..8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, random.u8(..)),
                3 => drop(bytes.remove(at)),
                _ => {
                    let other = random.usize(..bytes.len());
                    bytes.swap(at, other);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(summary) = read(Cursor::new(&bytes), &story.keys, Some(story.fleet), |_| {}) {
            assert!(bytes == good || summary.digest != whole.digest);
            assert_eq!(
                bytes,
                good,
                "a changed file passed: {}",
                String::from_utf8_lossy(&bytes)
            );
        }
    }
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    let (story, mut random) = (story(1), fastrand::Rng::with_seed(11));
    let header = story.lines()[0].as_bytes().to_vec();
    for n in 0..5_000 {
        let mut bytes = if n % 2 == 0 { Vec::new() } else { header.clone() };
        bytes.extend(
            (0..random.usize(..300)).map(|_| *b"{}[]\":,\n0aZ\\\xff\x00".get(random.usize(..14)).unwrap()),
        );
        assert!(read(Cursor::new(&bytes), &story.keys, None, |_| {}).is_err());
    }
}

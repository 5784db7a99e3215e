#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;

use gatewayzen_core::StepError;
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::wallet::{KeyType, Wallet};
use tempfile::TempDir;
use uuid::Uuid;

use super::Copies;

struct Story {
    folder: TempDir,
    line: String,
    fleet: Uuid,
}

impl Story {
    fn new() -> Self {
        let line = KeyRing::generate_line("b1").unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            line: line.expose_str().unwrap().to_owned(),
            fleet: Uuid::new_v4(),
        }
    }

    fn copies(&self) -> Copies {
        self.copies_with(&self.line)
    }

    fn copies_with(&self, keys: &str) -> Copies {
        Copies::new(
            self.folder.path().to_str().unwrap(),
            KeyRing::parse(keys).unwrap(),
            None,
        )
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }
}

fn again(wallet: &Wallet) -> Wallet {
    Wallet::from_seed(wallet.seed().expose_str().unwrap()).unwrap()
}

#[tokio::test]
async fn a_copy_is_private_whole_and_used_again() {
    let (story, wallet) = (Story::new(), Wallet::generate(KeyType::Secp256k1).unwrap());
    let address = wallet.address().to_owned();
    let first = story
        .copies()
        .keep(story.fleet, 7, "acme", again(&wallet))
        .await
        .unwrap();
    assert!(first.place.contains(&address), "{first:?}");
    let mode = std::fs::metadata(&first.place).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&first.place).unwrap();
    assert!(!text.contains(wallet.seed().expose_str().unwrap()));
    let second = story.copies().keep(story.fleet, 7, "acme", wallet).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(std::fs::read_to_string(&first.place).unwrap(), text);
    assert_eq!(story.files(), 1, "no temporary file is left");
}

#[tokio::test]
async fn another_file_of_the_name_is_left_alone_and_refused() {
    let (story, wallet) = (Story::new(), Wallet::generate(KeyType::Ed25519).unwrap());
    let path = story.folder.path().join(super::file_name(wallet.address()));
    std::fs::write(&path, "what somebody else put here").unwrap();
    let refused = story
        .copies()
        .keep(story.fleet, 7, "acme", again(&wallet))
        .await
        .unwrap_err();
    let StepError::Permanent(problem) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        problem.sentence.contains("is not the copy of this wallet"),
        "{problem:?}"
    );
    assert!(problem.unblock.contains("do not delete it"), "{problem:?}");
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "what somebody else put here"
    );

    // The copy of the same wallet for another row is not this row's.
    std::fs::remove_file(&path).unwrap();
    story
        .copies()
        .keep(story.fleet, 8, "other", again(&wallet))
        .await
        .unwrap();
    let refused = story
        .copies()
        .keep(story.fleet, 7, "acme", again(&wallet))
        .await
        .unwrap_err();
    assert!(matches!(refused, StepError::Permanent(_)), "{refused:?}");

    // Without its key it may still be the right one.
    let other = KeyRing::generate_line("b2").unwrap();
    let copies = story.copies_with(other.expose_str().unwrap());
    let refused = copies.keep(story.fleet, 8, "other", wallet).await.unwrap_err();
    let StepError::Transient(problem) = refused else {
        panic!("{refused:?}")
    };
    assert!(problem.sentence.contains("key \"b1\""), "{problem:?}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_not_made() {
    let (story, wallet) = (Story::new(), Wallet::generate(KeyType::Secp256k1).unwrap());
    let missing = story.folder.path().join("not-mounted");
    let copies = Copies::new(
        missing.to_str().unwrap(),
        KeyRing::parse(&story.line).unwrap(),
        None,
    );
    let refused = copies.keep(story.fleet, 7, "acme", wallet).await.unwrap_err();
    let StepError::Environment(problem) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        problem.sentence.contains("not-mounted") && problem.sentence.contains("No such file"),
        "{problem:?}"
    );
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_copy_is_carried_further_or_nobody_hears() {
    let (story, wallet) = (Story::new(), Wallet::generate(KeyType::Secp256k1).unwrap());
    let bucket = tempfile::tempdir().unwrap();
    let to = format!("{}/", bucket.path().display());
    for (command, expected) in [
        (vec!["cp", "{file}", &to], None),
        (vec!["cp", "{file}", "/nowhere/at/all/"], Some("cannot create")),
        (
            vec!["sh", "-c", "head -c 1000000 /dev/zero >&2; exit 3"],
            Some("exit status: 3"),
        ),
        (vec!["/nowhere/carry"], Some("cannot be run")),
        (vec!["sleep", "60"], Some("did not end within 300ms")),
    ] {
        let carrier = super::Carrier {
            limit: std::time::Duration::from_millis(if command[0] == "sleep" { 300 } else { 20_000 }),
            command: command.into_iter().map(str::to_owned).collect(),
        };
        let keys = KeyRing::parse(&story.line).unwrap();
        let copies = Copies::new(story.folder.path().to_str().unwrap(), keys, Some(carrier));
        let kept = copies.keep(story.fleet, 7, "acme", again(&wallet)).await;
        let Some(expected) = expected else {
            let place = kept.unwrap().place;
            let carried = bucket.path().join(super::file_name(wallet.address()));
            assert_eq!(std::fs::read(place).unwrap(), std::fs::read(carried).unwrap());
            continue;
        };
        let StepError::Environment(problem) = kept.unwrap_err() else {
            panic!("{expected}")
        };
        assert!(problem.sentence.contains(expected), "{problem:?}");
    }
}

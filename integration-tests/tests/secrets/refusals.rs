//! What is not shown and not recorded, each with its sentence.

use std::fs::File;

use gatewayzen_core::backup::BackupWriter;
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::wallet::{KeyType, Wallet};
use integration_tests::harness::{Bed, Options};

use crate::fixtures::folder;
use crate::vault::{fill, spoil};

/// A backup of this fleet that holds these wallets, as (gatewayd's id, its name, the wallet).
async fn backup(bed: &Bed, file: &str, wallets: &[(i64, &str, &Wallet)]) -> String {
    let keys = KeyRing::parse(&bed.backup_keys()).unwrap();
    let fleet = bed.repository.fleet_id().await.unwrap();
    let path = folder(bed).join(file);
    let mut writer = BackupWriter::new(File::create(&path).unwrap(), fleet, &keys).unwrap();
    for (id, name, wallet) in wallets {
        writer.add(*id, name, wallet).unwrap();
    }
    writer.finish().unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_secret_asked_for_is_not_revealed() {
    let bed = Bed::new(Options::default()).await;
    let ring = KeyRing::parse(&bed.sealing_keys()).unwrap();
    let rows = fill(&bed.database, 5, &[&ring]).await;
    spoil(&bed.database, &ring, &rows).await;
    let saved = backup(&bed, "one.backup", &[(rows[0].id, "row-000", &rows[0].wallet)]).await;
    let saved = saved.as_str();
    let file = folder(&bed).join("secret");
    let not_that_of = |n: usize| {
        format!(
            "what is kept as the seed of \"{}\" is not that of its address {}; run `gatewayzen secrets status`",
            rows[n].name,
            rows[n].wallet.address()
        )
    };
    let sealed_in = |place: &str, row: String| {
        format!("cannot be opened: the sealed value in {place} of row {row} does not open with key \"test\"")
    };
    let id = rows[2].id;
    let refused: [(&[&str], String); 7] = [
        (&["row-001", "wallet"], not_that_of(1)),
        (
            &["row-002", "wallet"],
            format!(
                "the cold wallet of \"row-002\" {}",
                sealed_in("wallet_seeds.sealed", format!("{id}/2"))
            ),
        ),
        (&["row-003", "wallet"], not_that_of(3)),
        (
            &["row-002", "api-key"],
            format!(
                "the API key of \"row-002\" {}",
                sealed_in("api_keys.sealed", id.to_string())
            ),
        ),
        (
            &["row-000", "api-key", "--backup", saved],
            "a backup has wallets only: ask for `wallet`, or leave --backup out".to_owned(),
        ),
        (
            &["row-001", "wallet", "--backup", saved],
            format!("{saved} has no wallet of \"row-001\""),
        ),
        (
            &["nobody", "wallet", "--backup", saved, "--offline"],
            format!("{saved} has no wallet of \"nobody\""),
        ),
    ];
    for (arguments, expected) in refused {
        let to = ["--reason", "a test", "--to", file.to_str().unwrap()];
        let all = [&["secrets", "reveal"][..], arguments, &to].concat();
        let (code, why) = bed.gatewayzen(&all).await.unwrap_err();
        assert!(code == 1 && why.contains(&expected), "{arguments:?}: {why}");
        assert!(!file.exists(), "{arguments:?}: what was refused leaves no file");
    }
    // Whoever was given something sealed is on record, whether it opened or not.
    let acts = "SELECT string_agg(action, ' ' ORDER BY id) FROM audit";
    assert_eq!(
        bed.database.text(acts).await,
        "reveal-wallet reveal-wallet reveal-wallet reveal-api-key reveal-wallet"
    );
}

/// It opens, and it is of this fleet; but one of the two is older than the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_does_not_fit_the_database_counts_for_none_of_its_wallets() {
    let bed = Bed::new(Options::default()).await;
    let ring = KeyRing::parse(&bed.sealing_keys()).unwrap();
    let rows = fill(&bed.database, 2, &[&ring]).await;
    let other = Wallet::generate(KeyType::Ed25519).unwrap();
    let right = (rows[0].id, "row-000", &rows[0].wallet);
    let ghost = rows[1].id + 1000;
    for (file, wallet, problem) in [
        (
            "other.backup",
            (rows[1].id, "row-001", &other),
            format!(
                "it has the wallet {} for gatewayd {}, and the database has {} (row-001)",
                other.address(),
                rows[1].id,
                rows[1].wallet.address()
            ),
        ),
        (
            "ghost.backup",
            (ghost, "ghost", &other),
            format!("it has a wallet of gatewayd {ghost} (\"ghost\"), and the database has none for it"),
        ),
    ] {
        let path = backup(&bed, file, &[right, wallet]).await;
        let (code, why) = bed
            .gatewayzen(&["secrets", "verify-backup", &path])
            .await
            .unwrap_err();
        let expected = format!(
            "{path} opens, and does not fit this database: {problem}; nothing was recorded. Keep the file, and find out which of \
             the two is older"
        );
        assert!(code == 1 && why.contains(&expected), "{expected}: {why}");
    }
    let recorded = "SELECT count(*)::text FROM wallet_backups";
    assert_eq!(bed.database.text(recorded).await, "0");
}

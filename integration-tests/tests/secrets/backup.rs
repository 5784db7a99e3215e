//! A backup of all wallets: made, verified, enough by itself when the database is lost, and refused in words when it is not whole.

use std::os::unix::fs::PermissionsExt as _;

use gatewayzen_core::wallet::Wallet;
use integration_tests::harness::{Bed, Database, Options, run};

use crate::fixtures::{folder, line, live, names};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_round_trip() {
    let bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let ids = live(&bed, &names("acme", 3)).await;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let recorded = async |place: &str| -> Vec<i64> {
        sqlx::query_scalar("SELECT gatewayd_id FROM wallet_backups WHERE place LIKE $1 ORDER BY gatewayd_id")
            .bind(format!("%{place}%"))
            .fetch_all(&bed.database.admin)
            .await
            .unwrap()
    };
    // The workers made copies of their own.
    assert_eq!(recorded("/wallets/wallet-r").await, sorted);

    let file = folder(&bed).join("all.backup");
    let path = file.to_str().unwrap();
    let export = ["secrets", "export", path, "--reason", "weekly"];
    let said = bed.gatewayzen(&export).await.unwrap();
    assert!(said.starts_with("3 wallets in "), "{said}");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let (code, why) = bed.gatewayzen(&export).await.unwrap_err();
    assert!(
        code == 1 && why.contains("exists and is not overwritten"),
        "{why}"
    );
    let acts = "SELECT string_agg(action || ' ' || reason, ', ' ORDER BY id) FROM audit";
    assert_eq!(
        bed.database.text(acts).await,
        "export-wallets weekly, export-wallets-ended weekly"
    );

    assert_eq!(recorded("all.backup").await, Vec::<i64>::new());
    let offline = ["secrets", "verify-backup", path, "--offline"];
    assert!(
        bed.gatewayzen(&offline)
            .await
            .unwrap()
            .contains("nothing was recorded")
    );
    assert_eq!(recorded("all.backup").await, Vec::<i64>::new());
    live(&bed, &names("late", 1)).await;
    let verify = ["secrets", "verify-backup", path];
    let said = bed.gatewayzen(&verify).await.unwrap();
    assert!(
        said.contains("3 wallets") && said.contains("not in it: 1 wallet of the database: late-0"),
        "{said}"
    );
    assert_eq!(recorded("all.backup").await, sorted);
    drop(services);

    // When the database is lost, the file and its keys are enough.
    let seed = folder(&bed).join("seed");
    let lost = [
        "secrets",
        "reveal",
        "acme-1",
        "wallet",
        "--backup",
        path,
        "--offline",
        "--reason",
        "all is lost",
        "--to",
    ];
    bed.gatewayzen(&[&lost[..], &[seed.to_str().unwrap()]].concat())
        .await
        .unwrap();
    let seed = std::fs::read_to_string(&seed).unwrap();
    let address = bed.row(ids[1]).await.ripple_address.unwrap();
    assert_eq!(Wallet::from_seed(seed.trim()).unwrap().address(), address);

    // Each way to be wrong has its sentence, and records nothing.
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let spoilt = folder(&bed).join("spoilt.backup");
    for (spoil, expected) in [
        (lines[..4].concat(), "was cut off after line 4"),
        ([lines[0], lines[1], lines[3], lines[4]].concat(), "is not whole"),
        (text.replacen("acme-1", "acme-7", 1), "is not whole"),
        (
            text.replacen("\"address\":\"r", "\"address\":\"R", 1),
            "line 2 of the backup: the seed of R",
        ),
        ("wallets".to_owned(), "is not a backup of wallets"),
    ] {
        std::fs::write(&spoilt, spoil).unwrap();
        let (code, why) = bed
            .gatewayzen(&["secrets", "verify-backup", spoilt.to_str().unwrap()])
            .await
            .unwrap_err();
        assert!(code == 1 && why.contains(expected), "{why}");
    }
    let keys = folder(&bed).join("backup_keys");
    let right = std::fs::read_to_string(&keys).unwrap();
    for (id, expected) in [
        (
            "other",
            "sealed with key \"backup\", which is not among the backup keys (they are: other)",
        ),
        ("backup", "another key has this id now"),
    ] {
        std::fs::write(&keys, line(id)).unwrap();
        let (_, why) = bed.gatewayzen(&verify).await.unwrap_err();
        assert!(why.contains(expected), "{why}");
    }
    std::fs::write(&keys, bed.sealing_keys().replacen("test:", "mine:", 1)).unwrap();
    let (code, why) = bed.gatewayzen(&verify).await.unwrap_err();
    assert!(
        code == 64 && why.contains("the backup key \"mine\" is the sealing key \"test\""),
        "{why}"
    );
    std::fs::write(&keys, right).unwrap();
    let other = Database::new().await;
    let environment = [
        bed.environment.clone(),
        vec![(
            "GATEWAYZEN_POSTGRES__URL".to_owned(),
            other.url("gatewayzen_operator"),
        )],
    ]
    .concat();
    let config = bed.config.to_str().unwrap();
    let done = run(
        "gatewayzen",
        &["--config", config, "secrets", "verify-backup", path],
        &environment,
    )
    .await;
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        why.contains("this is the backup of fleet") && done.status.code() == Some(1),
        "{why}"
    );
    assert_eq!(recorded("spoilt").await, Vec::<i64>::new());
}

//! A wallet is kept, on disk and elsewhere, before anybody hears of it.

use gatewayzen_core::seal::KeyRing;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::bench::{Bench, environment};

#[tokio::test]
async fn the_server_hears_nothing_before_a_copy_is_kept_elsewhere() {
    let bench = Bench::new().await;
    let folder = bench.copies.path();
    let elsewhere = folder.with_extension("unmounted");
    std::fs::rename(folder, &elsewhere).unwrap();
    let told = environment(bench.take().await);
    assert!(told.contains("no copy of a cold wallet can be kept"), "{told}");
    // The wallet is kept in Postgres, and nobody has heard of it.
    let made = bench.stored().await.unwrap();
    assert_eq!((bench.calls(), bench.recorded().await), (vec![], vec![]));

    std::fs::rename(&elsewhere, folder).unwrap();
    assert_eq!(bench.take().await.unwrap(), made);
    let recorded = bench.recorded().await;
    let [(address, place)] = recorded.as_slice() else {
        panic!("{recorded:?}")
    };
    assert_eq!(*address, made);
    let file = std::fs::File::open(place).unwrap();
    let keys = KeyRing::parse(&bench.backup_keys).unwrap();
    let mut found = Vec::new();
    let fleet = bench.repository.fleet_id().await.unwrap();
    gatewayzen_core::backup::read(std::io::BufReader::new(file), &keys, Some(fleet), |opened| {
        found.push((opened.gatewayd, opened.wallet.address().to_owned()));
    })
    .unwrap();
    assert_eq!(found, [(bench.lease.id, made)]);

    // What is recorded is not made again, wherever it lies now.
    std::fs::remove_file(place).unwrap();
    bench.take().await.unwrap();
    assert_eq!(bench.recorded().await.len(), 1);
    assert_eq!(std::fs::read_dir(bench.copies.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_copy_whose_record_was_lost_in_a_crash_is_used_again() {
    let bench = Bench::new().await;
    bench.take().await.unwrap();
    let first = bench.recorded().await;
    for statement in [
        "ALTER TABLE wallet_backups DISABLE TRIGGER only_added_to",
        "DELETE FROM wallet_backups",
    ] {
        sqlx::query(statement)
            .execute(&bench.database.admin)
            .await
            .unwrap();
    }
    bench.take().await.unwrap();
    assert_eq!(bench.recorded().await, first);
    assert_eq!(std::fs::read_dir(bench.copies.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn no_wallet_is_made_where_a_commit_may_be_lost() {
    let mut bench = Bench::new().await;
    // A setting of this database only, which holds for new connections.
    let off = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
    sqlx::query(off).execute(&bench.database.admin).await.unwrap();
    bench.repository.close().await;
    bench.repository = bench.database.repository("gatewayzen_wallet_worker");
    let told = environment(bench.take().await);
    assert!(told.contains("synchronous_commit off"), "{told}");
    assert_eq!((bench.stored().await, bench.calls()), (None, vec![]));
}

#[tokio::test]
async fn a_new_wallet_is_on_disk_before_it_is_told_whatever_its_session_was_set_to() {
    let bench = Bench::new().await;
    let url = bench.database.url("gatewayzen_wallet_worker");
    let mut session = PgConnection::connect(&url).await.unwrap();
    let off = "SET synchronous_commit = off";
    sqlx::query(off).execute(&mut session).await.unwrap();
    // Neither the session's setting nor its transaction's own reaches the commit of a wallet.
    for (setting, kept) in [("SELECT 1", false), ("SET LOCAL synchronous_commit = off", true)] {
        let mut transaction = session.begin().await.unwrap();
        sqlx::query(setting).execute(&mut *transaction).await.unwrap();
        let verdict: String = sqlx::query_scalar(
            "SELECT keep_wallet($1, $2, $3, 'rrrrrrrrrrrrrrrrrrrrBZbvji', 'ed25519', '\\x00')",
        )
        .bind(bench.lease.id)
        .bind(bench.lease.token)
        .bind(bench.lease.generation)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
        assert_eq!(verdict, "held");
        let at_commit: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(at_commit, "on", "after {setting}");
        if kept {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }
    let kept = bench.repository.wallet(bench.lease.id).await.unwrap().unwrap();
    assert_eq!(kept.address, "rrrrrrrrrrrrrrrrrrrrBZbvji");
}

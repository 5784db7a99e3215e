//! A wallet is on disk before anybody hears of it, whatever the session that kept it was set to.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use gatewayzen_core::State;
use gatewayzen_core::repository::{Lease, Verdict};
use integration_tests::harness::{Database, PostgresServer, eventually};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

const KEEP: &str =
    "SELECT keep_wallet($1, $2, $3, 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh', 'ed25519', 'sealed')";

/// A Postgres of the test's own, and a row that a worker has in hand.
async fn leased(server: &PostgresServer) -> (Database, Lease) {
    let database = Database::on(&server.url()).await;
    let made = "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id";
    let id: i64 = sqlx::query_scalar(made).fetch_one(&database.app).await.unwrap();
    let worker = database.repository("gatewayzen_wallet_worker");
    let lease = Duration::from_secs(600);
    match worker
        .take_lease(id, State::Instance, None, "test", lease, 9)
        .await
        .unwrap()
    {
        Verdict::Taken(lease) => (database, lease),
        other => panic!("{other:?}"),
    }
}

async fn sql(session: &mut PgConnection, sql: &'static str) {
    sqlx::query(sql)
        .execute(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[tokio::test]
async fn a_wallet_survives_a_power_cut_whatever_its_session_was_set_to() {
    let mut server = PostgresServer::new().await;
    server.start().await;
    let (database, lease) = leased(&server).await;
    let mut session = PgConnection::connect(&database.url("gatewayzen_wallet_worker"))
        .await
        .unwrap();
    sql(&mut session, "CREATE TEMP TABLE before_the_cut ()").await;
    // Whoever else would write the log down: an asynchronous commit is then lost in any power cut, and not only sometimes.
    let writer: i32 = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
        .fetch_one(&database.admin)
        .await
        .unwrap();
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &writer.to_string()])
        .status();
    assert!(stopped.unwrap().success());

    // The session, and the transaction after the wallet was stored, both ask for less.
    sql(&mut session, "SET synchronous_commit = off").await;
    sql(&mut session, "BEGIN").await;
    let kept: String = sqlx::query_scalar(KEEP)
        .bind(lease.id)
        .bind(lease.token)
        .bind(lease.generation)
        .fetch_one(&mut session)
        .await
        .unwrap();
    assert_eq!(kept, "held");
    sql(&mut session, "SET LOCAL synchronous_commit = off").await;
    sql(&mut session, "COMMIT").await;
    // What the same session may lose is lost: so the test would see a wallet that is not on disk.
    let mut other = PgConnection::connect(&database.url("gatewayzen_app"))
        .await
        .unwrap();
    sql(&mut other, "SET synchronous_commit = off").await;
    sql(&mut other, "INSERT INTO gatewayds (name) VALUES ('lost')").await;

    server.stop_at_once().await;
    server.start().await;
    eventually("the pool to have new connections", async || {
        sqlx::query("SELECT 1").execute(&database.admin).await.ok()
    })
    .await;
    let kept = "SELECT address || ' ' || encode(sealed, 'escape') FROM wallets JOIN wallet_seeds USING (gatewayd_id)";
    assert_eq!(
        database.text(kept).await,
        "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh sealed"
    );
    assert_eq!(
        database.text("SELECT string_agg(name, ' ') FROM gatewayds").await,
        "acme",
        "the power cut lost nothing at all, so it proves nothing"
    );
}

#[tokio::test]
async fn no_wallet_and_no_version_of_its_seed_is_kept_while_fsync_is_off() {
    let mut server = PostgresServer::new().await;
    server.start().await;
    let (database, lease) = leased(&server).await;
    let worker = database.repository("gatewayzen_wallet_worker");
    let fsync = async |value: &'static str| {
        let set = if value == "off" {
            "ALTER SYSTEM SET fsync = off"
        } else {
            "ALTER SYSTEM SET fsync = on"
        };
        sqlx::query(set).execute(&database.admin).await.unwrap();
        sqlx::query("SELECT pg_reload_conf()")
            .execute(&database.admin)
            .await
            .unwrap();
        eventually("the setting to be read", async || {
            (worker.unsafe_durability().await.unwrap().contains(&"fsync") == (value == "off")).then_some(())
        })
        .await;
    };
    let wallet = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
    fsync("off").await;
    let told = worker
        .keep_wallet(&lease, wallet, "ed25519", b"sealed")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("no wallet is kept while Postgres runs with fsync off: a power cut could take it after a server heard its address"),
        "{told}"
    );
    assert_eq!(database.text("SELECT count(*)::text FROM wallets").await, "0");
    fsync("on").await;
    worker
        .keep_wallet(&lease, wallet, "ed25519", b"sealed")
        .await
        .unwrap();
    // A version that is sealed anew is no less the only one that counts.
    fsync("off").await;
    let sealed_anew = "INSERT INTO wallet_seeds (gatewayd_id, version, sealed) SELECT gatewayd_id, 2, sealed FROM wallet_seeds";
    let told = sqlx::query(sealed_anew)
        .execute(&database.admin)
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("no wallet is kept while"), "{told}");
}

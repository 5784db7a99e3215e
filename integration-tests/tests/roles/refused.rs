//! Each role logs in and tries what nobody may do, what only another may, and to be rid of a wallet.

use gatewayzen_core::repository::{LeaseCheck, Outcome};
use gatewayzen_core::{Facts, State};
use integration_tests::harness::Database;

use crate::fixtures::{WALLET, full_row, leased_row, pool};
use crate::tables::LOGINS;

const OTHER: &str = "rrrrrrrrrrrrrrrrrrrrBZbvji";

/// What no login may do, whatever it is.
const FORBIDDEN: [&str; 37] = [
    // To be somebody else.
    "SET ROLE gatewayzen_engine",
    "SET ROLE gatewayzen_migrator",
    "SET SESSION AUTHORIZATION postgres",
    "GRANT gatewayzen_engine TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "CREATE ROLE mallory",
    // To switch the guards off.
    "ALTER TABLE gatewayds DISABLE TRIGGER USER",
    "ALTER TABLE wallets DISABLE TRIGGER ALL",
    "ALTER TABLE wallet_seeds DISABLE TRIGGER wallets_stay",
    "ALTER TABLE audit DISABLE TRIGGER only_added_to",
    "SET session_replication_role = replica",
    "DROP TRIGGER wallets_stay ON wallets",
    "CREATE TRIGGER mine BEFORE INSERT ON wallets FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE RULE mine AS ON INSERT TO wallet_seeds DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION may_act(p_unknown text[]) RETURNS text LANGUAGE sql AS 'SELECT NULL'",
    "ALTER FUNCTION keep_wallet SECURITY INVOKER",
    "CREATE TABLE mine (x int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE wallet_seeds CASCADE",
    "ALTER TABLE wallets RENAME TO lost",
    // To overwrite or delete what must stay.
    "DELETE FROM wallets",
    "DELETE FROM wallet_seeds",
    "UPDATE wallets SET address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
    "UPDATE wallet_seeds SET sealed = ''",
    "TRUNCATE wallets CASCADE",
    "TRUNCATE wallet_seeds",
    "LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE",
    "INSERT INTO wallet_seeds (gatewayd_id, version, sealed) VALUES (1, 2, '')",
    "INSERT INTO wallet_backups (gatewayd_id, address, place, digest) SELECT 1, 'x', 'x', repeat('0', 64)",
    "INSERT INTO audit (action, reason) VALUES ('nothing', 'I was never here')",
    "UPDATE audit SET reason = 'other'",
    "DELETE FROM gatewayd_history",
    "TRUNCATE gatewayds CASCADE",
    "UPDATE gatewayds SET ripple_address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
    "DELETE FROM launch_attempts",
    "UPDATE api_keys SET sealed = ''",
    // To read files of the server, where everything lies.
    "SELECT pg_read_file('postgresql.conf')",
];

#[tokio::test]
async fn every_login_is_refused_what_no_login_may_do() {
    let database = Database::new().await;
    full_row(&database).await;
    for (_, role) in LOGINS {
        let login = pool(&database, role);
        for sql in FORBIDDEN {
            let mut transaction = login.begin().await.unwrap();
            let refused = sqlx::query(sql).execute(&mut *transaction).await;
            let refused = refused.expect_err(&format!("{role} may: {sql}")).to_string();
            assert!(
                ["permission denied", "must be ", "must have "]
                    .iter()
                    .any(|words| refused.contains(words)),
                "{role}: {sql}: {refused}"
            );
        }
    }
    let whole = "SELECT w.address || ' ' || s.version || ' ' || encode(s.sealed, 'escape') FROM wallets w JOIN wallet_seeds s USING (gatewayd_id)";
    assert_eq!(database.text(whole).await, format!("{WALLET} 1 sealed"));
}

#[tokio::test]
async fn a_secret_is_read_by_the_worker_that_needs_it_and_by_nobody_else() {
    let database = Database::new().await;
    full_row(&database).await;
    for (sql, reader) in [
        ("SELECT sealed FROM wallet_seeds", "wallet"),
        ("SELECT count(*), max(sealed::text) FROM wallet_seeds", "wallet"),
        ("SELECT sealed FROM api_keys", "wallet"),
        ("SELECT sealed_user_data FROM launch_attempts", "instance"),
        ("SELECT to_jsonb(a)::text FROM launch_attempts a", "instance"),
        ("SELECT row_to_json(s)::text FROM wallet_seeds s", "wallet"),
        ("CREATE TEMP TABLE mine AS SELECT * FROM api_keys", "wallet"),
    ] {
        for (word, role) in LOGINS {
            let read = sqlx::query(sql).execute(&pool(&database, role)).await;
            match read {
                Ok(_) => assert_eq!(word, reader, "{role} may: {sql}"),
                Err(error) => {
                    assert_ne!(word, reader, "{sql}: {error}");
                    assert!(error.to_string().contains("permission denied"), "{sql}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn no_path_deletes_or_overwrites_a_wallet() {
    let database = Database::new().await;
    let lease = full_row(&database).await;
    // The functions run as the engine: what it may do is all that any of them can.
    for (table, rights) in [
        ("wallets", "UPDATE, DELETE, TRUNCATE"),
        ("wallet_seeds", "UPDATE, DELETE, TRUNCATE"),
    ] {
        let may: bool = sqlx::query_scalar(
            "SELECT has_table_privilege('gatewayzen_engine', $1, $2) OR has_any_column_privilege('gatewayzen_engine', $1, 'UPDATE')",
        )
        .bind(table)
        .bind(rights)
        .fetch_one(&database.admin)
        .await
        .unwrap();
        assert!(!may, "the engine may change {table}");
    }
    // The one function that keeps a wallet keeps no second one.
    let wallet = database.repository("gatewayzen_wallet_worker");
    wallet
        .keep_wallet(&lease, OTHER, "ed25519", b"other")
        .await
        .unwrap();
    let kept = wallet.wallet(lease.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.address.as_str(), kept.sealed.as_slice()),
        (WALLET, b"sealed".as_slice())
    );
    // A row that has lived takes its wallet nowhere; and the owner of the tables and the superuser meet the guards too.
    let deleted = sqlx::query("DELETE FROM gatewayds").execute(&database.app).await;
    assert!(deleted.unwrap_err().to_string().contains("cannot be deleted"));
    let migrator = pool(&database, "gatewayzen_migrator");
    for login in [&migrator, &database.admin] {
        for sql in [
            "DELETE FROM wallets",
            "DELETE FROM wallet_seeds",
            "UPDATE wallets SET address = address",
            "UPDATE wallet_seeds SET sealed = ''",
            "TRUNCATE wallets CASCADE",
            "INSERT INTO wallets (gatewayd_id, address, key_type) SELECT gatewayd_id, address, key_type FROM wallets
               ON CONFLICT (gatewayd_id) DO UPDATE SET address = 'rrrrrrrrrrrrrrrrrrrrBZbvji'",
        ] {
            let error = sqlx::query(sql).execute(login).await.unwrap_err().to_string();
            assert!(
                error.contains("a wallet is never changed and never deleted"),
                "{sql}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn no_service_gives_a_row_another_address_than_its_wallets() {
    let database = Database::new().await;
    let lease = full_row(&database).await;
    let service = database.repository("gatewayzen_service");
    let facts = |address: &str| Facts {
        ripple_address: Some(address.into()),
        ..Facts::default()
    };
    let advance = Outcome::Advance {
        to: State::Key,
        facts: facts(OTHER),
        why: "test".into(),
    };
    for refused in [
        service.record_facts(&lease, &facts(OTHER)).await.map(drop),
        service
            .finish_step(&lease, &advance, std::time::Duration::from_secs(1))
            .await
            .map(drop),
    ] {
        let refused = refused.unwrap_err().to_string();
        let sentence = format!(
            "gatewayd \"acme\" cannot be given the ripple_address \"{OTHER}\": its cold wallet is {WALLET}, for ever"
        );
        assert!(refused.contains(&sentence), "{refused}");
    }
    // Nor takes it away: what a fact may be is any JSON.
    let taken = sqlx::query("SELECT record_facts($1, $2, $3, '{\"ripple_address\": null}')")
        .bind(lease.id)
        .bind(lease.token)
        .bind(lease.generation)
        .execute(&pool(&database, "gatewayzen_service"))
        .await;
    let taken = taken.unwrap_err().to_string();
    assert!(
        taken.contains("cannot be given the ripple_address null"),
        "{taken}"
    );
    // The wallet's own is what the wallet-worker writes at the end of its step, in this version and in the one before.
    assert_eq!(
        service.record_facts(&lease, &facts(WALLET)).await.unwrap(),
        LeaseCheck::Held
    );
    let row = service.gatewayd(lease.id).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.ripple_address.as_deref()),
        (State::Instance, Some(WALLET))
    );
}

#[tokio::test]
async fn a_row_without_a_wallet_has_no_address() {
    let database = Database::new().await;
    let lease = leased_row(&database).await;
    let facts = Facts {
        ripple_address: Some(OTHER.into()),
        ..Facts::default()
    };
    let service = database.repository("gatewayzen_service");
    let refused = service
        .record_facts(&lease, &facts)
        .await
        .unwrap_err()
        .to_string();
    let sentence = format!(
        "gatewayd \"acme\" cannot be given the ripple_address \"{OTHER}\": no cold wallet is kept for it"
    );
    assert!(refused.contains(&sentence), "{refused}");
}

//! What whoever owns the tables, and the superuser, are refused all the same.

use integration_tests::harness::Database;
use sqlx::AssertSqlSafe;

use crate::fixtures::{full_row, pool};

#[tokio::test]
async fn a_record_is_never_changed_and_never_deleted_by_its_owner_or_the_superuser_either() {
    let database = Database::new().await;
    full_row(&database).await;
    let migrator = pool(&database, "gatewayzen_migrator");
    for (table, column) in [
        ("audit", "reason"),
        ("wallet_backups", "digest"),
        ("host_backups", "place"),
        ("resealed", "sealed"),
    ] {
        for (operation, sql) in [
            ("update", format!("UPDATE {table} SET {column} = {column}")),
            ("delete", format!("DELETE FROM {table}")),
            ("truncate", format!("TRUNCATE {table} CASCADE")),
        ] {
            let expected = format!("table \"{table}\" is only ever added to ({operation} refused)");
            for (login, word) in [(&migrator, "the migrator"), (&database.admin, "the superuser")] {
                let refused = sqlx::query(AssertSqlSafe(sql.clone())).execute(login).await;
                let refused = refused.expect_err(&format!("{word} may: {sql}")).to_string();
                assert!(refused.contains(&expected), "{word}: {sql}: {refused}");
            }
        }
    }
}

/// It owns every table, and neither the server nor the logins.
#[tokio::test]
async fn the_migrator_is_no_superuser_and_makes_none() {
    let database = Database::new().await;
    let migrator = pool(&database, "gatewayzen_migrator");
    for sql in [
        "CREATE ROLE mallory SUPERUSER",
        "CREATE ROLE mallory LOGIN",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE gatewayzen_app SUPERUSER",
        "ALTER ROLE gatewayzen_operator PASSWORD 'mine'",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY fleet TO PROGRAM 'true'",
        "COPY fleet TO '/tmp/gatewayzen-fleet'",
    ] {
        let mut transaction = migrator.begin().await.unwrap();
        let refused = sqlx::query(sql).execute(&mut *transaction).await;
        let refused = refused
            .expect_err(&format!("the migrator may: {sql}"))
            .to_string();
        assert!(
            ["permission denied", "must be ", "must have "]
                .iter()
                .any(|words| refused.contains(words)),
            "{sql}: {refused}"
        );
    }
}

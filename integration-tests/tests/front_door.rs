//! The SQL front door: what an external application may do, and the sentence that it gets for the rest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::Database;
use sqlx::PgPool;

/// The sentence with which Postgres refuses a statement.
async fn refusal(pool: &PgPool, sql: &'static str) -> String {
    match sqlx::query(sql).execute(pool).await {
        Ok(_) => panic!("allowed: {sql}"),
        Err(sqlx::Error::Database(error)) => error.message().to_owned(),
        Err(other) => panic!("{sql}: {other}"),
    }
}

#[tokio::test]
async fn every_illegal_move_is_refused_from_every_state() {
    let database = Database::new().await;
    let app = &database.app;
    database
        .write("INSERT INTO gatewayds (name) VALUES ('acme')")
        .await;
    let text = refusal(app, "UPDATE gatewayds SET state = 'live' WHERE name = 'acme'").await;
    assert_eq!(
        text,
        "gatewayd \"acme\" is in state \"new\" and cannot be moved to \"live\"; \
         from \"new\" it may be moved to \"instance\", \"terminate\""
    );
    // Every move that is not in the table is refused, from every state, for the superuser as well.
    for from in State::ALL {
        for to in State::ALL {
            let mut tx = database.admin.begin().await.unwrap();
            sqlx::query("ALTER TABLE gatewayds DISABLE TRIGGER USER")
                .execute(&mut *tx)
                .await
                .unwrap();
            sqlx::query("UPDATE gatewayds SET state = $1")
                .bind(from.name())
                .execute(&mut *tx)
                .await
                .unwrap();
            sqlx::query("ALTER TABLE gatewayds ENABLE TRIGGER USER")
                .execute(&mut *tx)
                .await
                .unwrap();
            let written = sqlx::query("UPDATE gatewayds SET state = $1")
                .bind(to.name())
                .execute(&mut *tx)
                .await;
            let legal = from == to || from.external_moves().contains(&to);
            assert_eq!(written.is_ok(), legal, "{from} to {to}: {written:?}");
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn bad_rows_are_refused_with_a_sentence() {
    let database = Database::new().await;
    let app = &database.app;
    database
        .write("INSERT INTO gatewayds (name) VALUES ('acme')")
        .await;
    for (sql, says) in [
        ("INSERT INTO gatewayds (name) VALUES ('acme')", "duplicate key"),
        ("INSERT INTO gatewayds (name) VALUES ('')", "name_is_a_dns_label"),
        (
            "INSERT INTO gatewayds (state) VALUES ('new')",
            "null value in column \"name\"",
        ),
        (
            "INSERT INTO gatewayds (name) VALUES ('Acme')",
            "name_is_a_dns_label",
        ),
        (
            "INSERT INTO gatewayds (name) VALUES ('a;rm -rf')",
            "name_is_a_dns_label",
        ),
        (
            "INSERT INTO gatewayds (name) VALUES (E'a\\nb')",
            "name_is_a_dns_label",
        ),
        (
            "INSERT INTO gatewayds (name, state) VALUES ('b', 'live')",
            "create it in \"new\"",
        ),
        (
            "INSERT INTO gatewayds (name, state) VALUES ('b', 'nonsense')",
            "cannot be created in state \"nonsense\"",
        ),
        (
            "INSERT INTO gatewayds (name, release) VALUES ('b', '$(reboot)')",
            "release_is_a_git_tag",
        ),
        (
            "INSERT INTO gatewayds (name, release) VALUES ('b', '--upload-pack=x')",
            "release_is_a_git_tag",
        ),
        (
            "INSERT INTO gatewayds (name, ami) VALUES ('b', 'ami-nope')",
            "ami_is_an_image_id",
        ),
        (
            "INSERT INTO gatewayds (name, instance_type) VALUES ('b', 'huge')",
            "instance_type_is_one_of_ec2s",
        ),
        (
            "INSERT INTO gatewayds (name, owner_id) VALUES ('b', E'x\\'y')",
            "owner_id_is_plain",
        ),
        (
            "UPDATE gatewayds SET state = 'nonsense'",
            "cannot be moved to \"nonsense\"",
        ),
        ("UPDATE gatewayds SET state = NULL", "cannot be moved to \"null\""),
        ("UPDATE gatewayds SET name = 'other'", "permission denied"),
        ("UPDATE gatewayds SET generation = 9", "permission denied"),
        ("UPDATE gatewayds SET hold = 'x'", "permission denied"),
        ("TRUNCATE gatewayds", "permission denied"),
        ("SELECT * FROM wallets", "permission denied"),
        ("SELECT * FROM wallet_seeds", "permission denied"),
        ("SELECT * FROM api_keys", "permission denied"),
        ("SELECT * FROM launch_attempts", "permission denied"),
        (
            "SELECT take_lease(1, 'instance', NULL, 'me', '1s', 1)",
            "permission denied",
        ),
        ("SET ROLE gatewayzen_engine", "permission denied"),
    ] {
        let text = refusal(app, sql).await;
        assert!(text.contains(says), "{sql}: {text}");
    }
}

#[tokio::test]
async fn not_even_the_superuser_renames_deletes_or_truncates_what_has_lived() {
    let database = Database::new().await;
    database
        .write("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')")
        .await;
    for (sql, says) in [
        (
            "UPDATE gatewayds SET name = 'other'",
            "the id and the name of gatewayd \"acme\" never change",
        ),
        (
            "UPDATE gatewayds SET generation = 9",
            "a column that only GatewayZen writes",
        ),
        (
            "UPDATE gatewayds SET fault = 'x'",
            "a column that only GatewayZen writes",
        ),
        ("UPDATE gatewayds SET state = 'key'", "cannot be moved to \"key\""),
        (
            "DELETE FROM gatewayds",
            "cannot be deleted: its wallet and history stay",
        ),
        ("TRUNCATE gatewayds CASCADE", "cannot be truncated"),
        ("TRUNCATE gatewayd_history", "cannot be truncated"),
        (
            "DELETE FROM wallets",
            "a wallet is never changed and never deleted",
        ),
        (
            "UPDATE wallet_seeds SET sealed = ''",
            "a wallet is never changed and never deleted",
        ),
    ] {
        let text = refusal(&database.admin, sql).await;
        assert!(text.contains(says), "{sql}: {text}");
    }
    database
        .write("INSERT INTO gatewayds (name) VALUES ('mistake')")
        .await;
    database
        .write("DELETE FROM gatewayds WHERE name = 'mistake'")
        .await;
}

#[tokio::test]
async fn every_move_writes_who_when_from_to_and_why() {
    let database = Database::new().await;
    database
        .write("INSERT INTO gatewayds (name) VALUES ('acme')")
        .await;
    database
        .write("UPDATE gatewayds SET state = 'instance', changed_why = 'first customer'")
        .await;
    // A write that is undone leaves no history.
    let mut tx = database.app.begin().await.unwrap();
    sqlx::query("UPDATE gatewayds SET state = 'terminate'")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    let repository = database.repository("gatewayzen_service");
    let id = repository.gatewayd_named("acme").await.unwrap().unwrap().id;
    let history = repository.history(id).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|h| {
            (
                h.event.as_str(),
                h.from_state.as_deref(),
                h.to_state.as_str(),
                h.by.as_str(),
                h.why.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("created", None, "new", "gatewayzen_app", None),
            (
                "moved",
                Some("new"),
                "instance",
                "gatewayzen_app",
                Some("first customer")
            ),
        ]
    );
}

//! The SQL front door: what an external application may do, and the sentence that it gets for the rest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use gatewayzen_core::State;
use gatewayzen_core::repository::{LeaseCheck, Outcome, Verdict};
use integration_tests::harness::Database;
use sqlx::PgPool;

const LEASE: Duration = Duration::from_secs(30);

/// The sentence with which Postgres refuses a statement.
async fn refusal(pool: &PgPool, sql: &'static str) -> String {
    match sqlx::query(sql).execute(pool).await {
        Ok(_) => panic!("allowed: {sql}"),
        Err(sqlx::Error::Database(error)) => error.message().to_owned(),
        Err(other) => panic!("{sql}: {other}"),
    }
}

async fn done(pool: &PgPool, sql: &'static str) {
    sqlx::query(sql)
        .execute(pool)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

async fn column(database: &Database, sql: &'static str) -> String {
    sqlx::query_scalar(sql)
        .fetch_one(&database.admin)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test]
async fn an_illegal_write_is_refused_by_postgres() {
    let database = Database::new().await;
    let app = &database.app;
    done(app, "INSERT INTO gatewayds (name) VALUES ('acme')").await;
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
    done(app, "INSERT INTO gatewayds (name) VALUES ('acme')").await;
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
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')",
    )
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
    done(&database.app, "INSERT INTO gatewayds (name) VALUES ('mistake')").await;
    done(&database.app, "DELETE FROM gatewayds WHERE name = 'mistake'").await;
}

#[tokio::test]
async fn every_move_writes_who_when_from_to_and_why() {
    let database = Database::new().await;
    done(&database.app, "INSERT INTO gatewayds (name) VALUES ('acme')").await;
    done(
        &database.app,
        "UPDATE gatewayds SET state = 'instance', changed_why = 'first customer'",
    )
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

#[tokio::test]
async fn a_stale_worker_changes_nothing() {
    let database = Database::new().await;
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')",
    )
    .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    let Verdict::Taken(lease) = service
        .take_lease(id, State::Instance, Some(1), "one", LEASE, 3)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    assert!(matches!(
        service
            .take_lease(id, State::Instance, None, "two", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Busy(_)
    ));
    // Somebody writes the state: the worker's outcome is of the past, and only its lease is given back.
    done(&database.app, "UPDATE gatewayds SET state = 'terminate'").await;
    assert_eq!(
        service.renew_lease(&lease, LEASE).await.unwrap(),
        LeaseCheck::Superseded
    );
    assert_eq!(
        service
            .keep_wallet(&lease, "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", "ed25519", b"x")
            .await
            .unwrap(),
        LeaseCheck::Superseded
    );
    assert_eq!(column(&database, "SELECT count(*)::text FROM wallets").await, "0");
    assert!(matches!(
        service
            .take_lease(id, State::Terminate, Some(2), "two", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Busy(_)
    ));
    let advance = Outcome::Advance {
        to: State::Key,
        facts: Default::default(),
        why: "done".into(),
    };
    let finished = service.finish_step(&lease, &advance, LEASE).await.unwrap();
    assert_eq!(
        (finished.check, finished.state, finished.generation),
        (LeaseCheck::Superseded, State::Terminate, 2)
    );
    // The next one has it at once; the first one's lease is worth nothing any more.
    let Verdict::Taken(next) = service
        .take_lease(id, State::Terminate, Some(2), "two", LEASE, 3)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    assert_eq!(
        service.finish_step(&lease, &advance, LEASE).await.unwrap().check,
        LeaseCheck::Lost
    );
    // An expired lease is no lease, though nobody else has the row.
    let short = Duration::from_millis(1);
    assert_eq!(service.renew_lease(&next, short).await.unwrap(), LeaseCheck::Held);
    integration_tests::harness::eventually("the lease to expire", async || {
        (service.renew_lease(&next, short).await.unwrap() == LeaseCheck::Lost).then_some(())
    })
    .await;
    assert_eq!(
        column(&database, "SELECT state FROM gatewayds").await,
        "terminate"
    );
}

#[tokio::test]
async fn writing_the_same_state_retries_only_what_has_failed() {
    let database = Database::new().await;
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')",
    )
    .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    // An ORM writes every column back: nothing happens to a row that goes well.
    done(
        &database.app,
        "UPDATE gatewayds SET state = state, release = release",
    )
    .await;
    assert_eq!(
        column(&database, "SELECT generation::text FROM gatewayds").await,
        "1"
    );
    let Verdict::Taken(lease) = service
        .take_lease(id, State::Instance, None, "one", LEASE, 3)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    let park = Outcome::Park {
        fault: "broken".into(),
        unblock: "mend it".into(),
    };
    assert_eq!(
        service
            .finish_step(&lease, &park, LEASE)
            .await
            .unwrap()
            .generation,
        2
    );
    // Late duplicates of the job do not un-park the row; only a job with the generation of the fault does.
    assert_eq!(
        service
            .take_lease(id, State::Instance, Some(1), "one", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Stale
    );
    assert_eq!(
        service
            .take_lease(id, State::Instance, None, "one", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Parked
    );
    // A write of another column is no retry either.
    done(&database.app, "UPDATE gatewayds SET owner_id = 'o-1'").await;
    assert_eq!(column(&database, "SELECT fault FROM gatewayds").await, "broken");
    done(&database.app, "UPDATE gatewayds SET state = 'instance'").await;
    assert_eq!(
        column(
            &database,
            "SELECT coalesce(fault, 'none') || generation FROM gatewayds"
        )
        .await,
        "none3"
    );
    let Verdict::Taken(lease) = service
        .take_lease(id, State::Instance, Some(3), "one", LEASE, 3)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    service.finish_step(&lease, &park, LEASE).await.unwrap();
    // Queueing the failed job again is the same wish.
    assert!(matches!(
        service
            .take_lease(id, State::Instance, Some(4), "one", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Taken(_)
    ));
}

#[tokio::test]
async fn a_hold_takes_no_lease_and_stops_the_clock() {
    let database = Database::new().await;
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')",
    )
    .await;
    let service = database.repository("gatewayzen_service");
    let operator = database.repository("gatewayzen_operator");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    operator.hold("acme", Some("audit")).await.unwrap();
    assert_eq!(
        service
            .take_lease(id, State::Instance, None, "one", LEASE, 3)
            .await
            .unwrap(),
        Verdict::Held
    );
    assert!(service.claim_due(10, LEASE).await.unwrap().is_empty());
    let none = [(State::Instance, Duration::ZERO)].into();
    assert!(
        service.park_overdue(&none, "test").await.unwrap().is_empty(),
        "the deadline pauses"
    );
    // Writes are accepted and wait.
    done(&database.app, "UPDATE gatewayds SET state = 'terminate'").await;
    assert!(service.claim_due(10, LEASE).await.unwrap().is_empty());
    operator.hold("acme", None).await.unwrap();
    assert_eq!(service.claim_due(10, LEASE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_step_that_never_ends_is_parked_after_its_attempts() {
    let database = Database::new().await;
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')",
    )
    .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    let short = Duration::from_millis(1);
    let mut begun = 0;
    let generation = integration_tests::harness::eventually("the row to be parked", async || {
        // Each worker dies with the lease in its hand.
        match service
            .take_lease(id, State::Instance, None, "dying", short, 3)
            .await
            .unwrap()
        {
            Verdict::Taken(_) => begun += 1,
            Verdict::Exhausted(generation) => return Some(generation),
            _ => {}
        }
        None
    })
    .await;
    assert_eq!((begun, generation), (3, 2));
    let fault = column(&database, "SELECT fault FROM gatewayds").await;
    assert!(
        fault.contains("begun 3 times and never ended") && fault.contains("dying"),
        "{fault}"
    );
}

#[tokio::test]
async fn nothing_waits_for_ever() {
    let database = Database::new().await;
    done(
        &database.app,
        "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance'), ('beta', 'instance')",
    )
    .await;
    let service = database.repository("gatewayzen_service");
    let acme = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    let Verdict::Taken(_) = service
        .take_lease(acme, State::Instance, None, "one", LEASE, 3)
        .await
        .unwrap()
    else {
        panic!("not taken");
    };
    let long = [(State::Instance, LEASE)].into();
    assert!(
        service.park_overdue(&long, "test").await.unwrap().is_empty(),
        "within the deadline"
    );
    let passed = [(State::Instance, Duration::ZERO)].into();
    let parked = service.park_overdue(&passed, "test").await.unwrap();
    assert_eq!(
        parked.len(),
        1,
        "a row in a worker's hand is left to it: {parked:?}"
    );
    let beta = service.gatewayd_named("beta").await.unwrap().unwrap();
    let fault = beta.fault.unwrap();
    assert!(
        fault.contains("no worker took its step") && fault.contains("initializeEc2Instance"),
        "{fault}"
    );
    assert!(beta.unblock.unwrap().contains("instance-worker"));
    let events: Vec<String> = service
        .history(beta.id)
        .await
        .unwrap()
        .into_iter()
        .map(|h| h.event)
        .collect();
    assert_eq!(events, ["created", "faulted"]);
}

#[tokio::test]
async fn a_long_transaction_of_a_writer_costs_no_deadline() {
    let database = Database::new().await;
    let mut tx = database.app.begin().await.unwrap();
    sqlx::query("SELECT pg_sleep(0.3)")
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')")
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let started: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM clock_started_at - created_at)::float8 + \
        extract(epoch FROM (SELECT at FROM gatewayd_history) - clock_started_at)::float8 FROM gatewayds",
    )
    .fetch_one(&database.admin)
    .await
    .unwrap();
    assert!(
        started.abs() < 0.25,
        "the clock began {started} s before the write"
    );
}

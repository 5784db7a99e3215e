//! Who may ask for a sweep, who may do one, and that there is one at a time.

use std::time::Duration;

use futures_util::future::join_all;
use gatewayzen_core::sweep::{Machine, Report};
use integration_tests::harness::Database;
use integration_tests::simulated_fleet::Config;

use super::SLOW;
use crate::workers::bed;

const LEASE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_role_has_its_own_doors_to_the_sweep() {
    let database = Database::new().await;
    let refused = async |role: &str, sql: &'static str, says: &str| {
        let pool = sqlx::PgPool::connect_lazy(&database.url(role)).unwrap();
        let error = sqlx::query(sql).execute(&pool).await;
        let error = error.expect_err(&format!("{role} may: {sql}")).to_string();
        assert!(error.contains(says), "{role}: {sql}: {error}");
    };
    for table in [
        "SELECT * FROM sweeps",
        "SELECT * FROM orphans",
        "SELECT * FROM missed_machines",
        "SELECT * FROM restores",
    ] {
        for role in ["gatewayzen_app", "gatewayzen_service"] {
            refused(role, table, "permission denied").await;
        }
        let operator = database.repository("gatewayzen_operator");
        assert!(operator.sweep(1).await.unwrap().is_none());
    }
    for role in ["gatewayzen_app", "gatewayzen_operator"] {
        refused(
            role,
            "SELECT ask_sweep_on_period('1m', 'me')",
            "permission denied",
        )
        .await;
    }
    for role in [
        "gatewayzen_app",
        "gatewayzen_service",
        "gatewayzen_instance_worker",
    ] {
        refused(role, "SELECT ask_sweep(true, 9, NULL)", "permission denied").await;
        refused(role, "SELECT withdraw_sweep(1)", "permission denied").await;
        refused(role, "SELECT declare_restored('x')", "permission denied").await;
    }
    for role in [
        "gatewayzen_app",
        "gatewayzen_operator",
        "gatewayzen_service",
        "gatewayzen_ssh_worker",
        "gatewayzen_wallet_worker",
    ] {
        for sql in [
            "SELECT claim_sweep('me', '1m')",
            "SELECT renew_sweep(1, gen_random_uuid(), '1m')",
            "SELECT finish_sweep(1, gen_random_uuid(), NULL, NULL)",
            "SELECT compare_machines(1, gen_random_uuid(), '[]')",
            "SELECT end_orphan(1, gen_random_uuid(), '{}', '1m', 9)",
            "SELECT rows_without_machine(1, gen_random_uuid(), '{}')",
            "SELECT miss_machines(1, gen_random_uuid(), '{}', '{}')",
            "SELECT park_gone(1, gen_random_uuid(), 1, 1, 'i', 'x', 'y', NULL)",
        ] {
            refused(role, sql, "permission denied").await;
        }
    }
    for sql in [
        "INSERT INTO sweeps (asked_by, act) VALUES ('me', true)",
        "UPDATE sweeps SET act = true",
        "UPDATE orphans SET first_seen_at = '2000-01-01'",
        "DELETE FROM orphans",
        "UPDATE fleet SET home = 'here'",
    ] {
        refused("gatewayzen_operator", sql, "permission denied").await;
    }
    let operator = database.repository("gatewayzen_operator");
    operator.declare_restored("moved").await.unwrap().unwrap();
    for sql in [
        "UPDATE restores SET why = 'x'",
        "DELETE FROM restores",
        "TRUNCATE restores",
    ] {
        let error = sqlx::query(sql).execute(&database.admin).await.unwrap_err();
        assert!(
            error.to_string().contains("what was declared stays"),
            "{sql}: {error}"
        );
    }
}

#[tokio::test]
async fn there_is_one_sweep_at_a_time_and_only_its_own_worker_does_it() {
    let database = Database::new().await;
    let (operator, service) = (
        database.repository("gatewayzen_operator"),
        database.repository("gatewayzen_instance_worker"),
    );
    // Any number of dispatchers ask for one.
    let every = Duration::from_secs(3600);
    let asked = join_all((0..4).map(|_| service.ask_sweep_on_period(every, "dispatcher"))).await;
    assert_eq!(asked.into_iter().filter_map(Result::unwrap).count(), 1);
    let second = operator.ask_sweep(true, None, None).await.unwrap().unwrap();
    let claims = join_all((0..4).map(|_| service.claim_sweep("worker", LEASE))).await;
    let mut taken: Vec<_> = claims.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(taken.len(), 1);
    let first = taken.remove(0);
    assert!(first.id < second && first.act);

    // Given up for dead: the next one has the same sweep, and the former one nothing any more.
    let expired = "UPDATE sweeps SET lease_until = clock_timestamp() WHERE lease_token IS NOT NULL";
    sqlx::query(expired).execute(&database.admin).await.unwrap();
    let again = service.claim_sweep("other", LEASE).await.unwrap().unwrap();
    assert_eq!(again.id, first.id);
    let machine = Machine {
        instance_id: "i-1".into(),
        state: "running".into(),
        launched_at: None,
        gatewayd_id: None,
        name: None,
        attempt: None,
        client_token: None,
    };
    let late = "is not this worker's any more";
    let says =
        |error: gatewayzen_core::repository::RepositoryError| assert!(error.to_string().contains(late));
    says(service.renew_sweep(&first, LEASE).await.unwrap_err());
    says(service.compare_machines(&first, &[]).await.unwrap_err());
    says(service.end_orphan(&first, &machine, LEASE, 9).await.unwrap_err());
    says(service.rows_without_machine(&first, &[]).await.unwrap_err());
    says(service.miss_machines(&first, &[]).await.unwrap_err());
    says(
        service
            .finish_sweep(&first, Ok(&Report::default()))
            .await
            .unwrap_err(),
    );
    service
        .finish_sweep(&again, Ok(&Report::default()))
        .await
        .unwrap();

    // A sweep that kills its workers is given up.
    for _ in 0..3 {
        assert_eq!(
            service.claim_sweep("worker", LEASE).await.unwrap().unwrap().id,
            second
        );
        sqlx::query(expired).execute(&database.admin).await.unwrap();
    }
    assert!(service.claim_sweep("worker", LEASE).await.unwrap().is_none());
    let error = operator.sweep(second).await.unwrap().unwrap().error.unwrap();
    assert!(error.contains("begun 3 times"), "{error}");

    // None is asked for before its time; and what nobody took in time is not done later.
    assert_eq!(
        service.ask_sweep_on_period(every, "dispatcher").await.unwrap(),
        None
    );
    let third = operator.ask_sweep(true, None, None).await.unwrap().unwrap();
    sqlx::query("UPDATE sweeps SET asked_at = asked_at - interval '6 minutes'")
        .execute(&database.admin)
        .await
        .unwrap();
    assert!(service.claim_sweep("worker", LEASE).await.unwrap().is_none());
    assert!(operator.sweep(third).await.unwrap().unwrap().error.is_some());
}

#[tokio::test]
async fn a_sweep_that_nobody_takes_is_taken_back_and_says_so() {
    let bed = bed(Config::default(), SLOW).await;
    let (code, told) = bed.gatewayzen(&["sweep", "--act"]).await.unwrap_err();
    assert_eq!(code, 1);
    assert!(
        told.contains("no instance-worker took the sweep within 15 s"),
        "{told}"
    );
    let open = "SELECT count(*)::text FROM sweeps WHERE ended_at IS NULL";
    assert_eq!(bed.database.text(open).await, "0");
}

#[tokio::test]
async fn an_ec2_that_refuses_fails_the_sweep_with_its_words() {
    let bed = bed(Config::default(), SLOW).await;
    let _worker = bed.start_with("instance-worker", &[("AWS_ACCESS_KEY_ID", "AKIAWRONG")]);
    let (code, told) = bed.gatewayzen(&["sweep"]).await.unwrap_err();
    assert!(code == 1 && told.contains("AuthFailure"), "{told}");
}

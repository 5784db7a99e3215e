//! The laws of leases, generations, holds and deadlines, on the functions by which workers change rows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use gatewayzen_core::State;
use gatewayzen_core::repository::{Lease, LeaseCheck, Outcome, Repository, Verdict};
use integration_tests::harness::{Database, eventually};

const LEASE: Duration = Duration::from_secs(30);

/// A database with one row, which is due, and what a service sees of it.
async fn acme() -> (Database, Repository, i64) {
    let database = Database::new().await;
    database
        .write("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance')")
        .await;
    let service = database.repository("gatewayzen_service");
    let id = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    (database, service, id)
}

/// Asks for the row's lease as the worker of this name.
async fn take(service: &Repository, id: i64, state: State, generation: Option<i64>, owner: &str) -> Verdict {
    let verdict = service.take_lease(id, state, generation, owner, LEASE, 3).await;
    verdict.unwrap()
}

#[track_caller]
fn taken(verdict: Verdict) -> Lease {
    match verdict {
        Verdict::Taken(lease) => lease,
        other => panic!("not taken: {other:?}"),
    }
}

#[tokio::test]
async fn what_an_overtaken_worker_writes_is_not_written() {
    let (database, service, id) = acme().await;
    let lease = taken(take(&service, id, State::Instance, Some(1), "one").await);
    assert!(matches!(
        take(&service, id, State::Instance, None, "two").await,
        Verdict::Busy(_)
    ));
    // Somebody writes the state: the worker's outcome is of the past, and only its lease is given back.
    database.write("UPDATE gatewayds SET state = 'terminate'").await;
    assert_eq!(
        service.renew_lease(&lease, LEASE).await.unwrap(),
        LeaseCheck::Superseded
    );
    assert_eq!(
        database
            .repository("gatewayzen_wallet_worker")
            .keep_wallet(&lease, "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh", "ed25519", b"x")
            .await
            .unwrap(),
        LeaseCheck::Superseded
    );
    assert_eq!(database.text("SELECT count(*)::text FROM wallets").await, "0");
    assert!(matches!(
        take(&service, id, State::Terminate, Some(2), "two").await,
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
    let next = taken(take(&service, id, State::Terminate, Some(2), "two").await);
    assert_eq!(
        service.finish_step(&lease, &advance, LEASE).await.unwrap().check,
        LeaseCheck::Lost
    );
    // An expired lease is no lease, though nobody else has the row.
    let short = Duration::from_millis(1);
    assert_eq!(service.renew_lease(&next, short).await.unwrap(), LeaseCheck::Held);
    eventually("the lease to expire", async || {
        (service.renew_lease(&next, short).await.unwrap() == LeaseCheck::Lost).then_some(())
    })
    .await;
    assert_eq!(database.text("SELECT state FROM gatewayds").await, "terminate");
}

#[tokio::test]
async fn writing_the_same_state_retries_only_what_has_failed() {
    let (database, service, id) = acme().await;
    // An ORM writes every column back: nothing happens to a row that goes well.
    database
        .write("UPDATE gatewayds SET state = state, release = release")
        .await;
    assert_eq!(database.text("SELECT generation::text FROM gatewayds").await, "1");
    let lease = taken(take(&service, id, State::Instance, None, "one").await);
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
        take(&service, id, State::Instance, Some(1), "one").await,
        Verdict::Stale
    );
    assert_eq!(
        take(&service, id, State::Instance, None, "one").await,
        Verdict::Parked
    );
    // A write of another column is no retry either.
    database.write("UPDATE gatewayds SET owner_id = 'o-1'").await;
    assert_eq!(database.text("SELECT fault FROM gatewayds").await, "broken");
    database.write("UPDATE gatewayds SET state = 'instance'").await;
    assert_eq!(
        database
            .text("SELECT coalesce(fault, 'none') || generation FROM gatewayds")
            .await,
        "none3"
    );
    let lease = taken(take(&service, id, State::Instance, Some(3), "one").await);
    service.finish_step(&lease, &park, LEASE).await.unwrap();
    // Queueing the failed job again is the same wish.
    assert!(matches!(
        take(&service, id, State::Instance, Some(4), "one").await,
        Verdict::Taken(_)
    ));
}

#[tokio::test]
async fn a_hold_takes_no_lease_and_stops_the_clock() {
    let (database, service, id) = acme().await;
    let operator = database.repository("gatewayzen_operator");
    operator.hold("acme", Some("audit")).await.unwrap();
    assert_eq!(
        take(&service, id, State::Instance, None, "one").await,
        Verdict::Held
    );
    assert!(service.claim_due(10, LEASE).await.unwrap().is_empty());
    let none = [(State::Instance, Duration::ZERO)].into();
    assert!(
        service.park_overdue(&none, "test").await.unwrap().is_empty(),
        "the deadline pauses"
    );
    // Writes are accepted and wait.
    database.write("UPDATE gatewayds SET state = 'terminate'").await;
    assert!(service.claim_due(10, LEASE).await.unwrap().is_empty());
    operator.hold("acme", None).await.unwrap();
    assert_eq!(service.claim_due(10, LEASE).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_step_that_never_ends_is_parked_after_its_attempts() {
    let (database, service, id) = acme().await;
    let short = Duration::from_millis(1);
    let mut begun = 0;
    let generation = eventually("the row to be parked", async || {
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
    let fault = database.text("SELECT fault FROM gatewayds").await;
    assert!(
        fault.contains("begun 3 times and never ended") && fault.contains("dying"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_row_past_its_deadline_is_parked() {
    let database = Database::new().await;
    database
        .write("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance'), ('beta', 'instance')")
        .await;
    let service = database.repository("gatewayzen_service");
    let acme = service.gatewayd_named("acme").await.unwrap().unwrap().id;
    taken(take(&service, acme, State::Instance, None, "one").await);
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
    // The time by which a clock that counted from the transaction's begin would be wrong.
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

#[tokio::test]
async fn an_open_transaction_of_a_writer_holds_up_nobody_for_long() {
    let (database, service, id) = acme().await;
    let mut tx = database.app.begin().await.unwrap();
    sqlx::query("UPDATE gatewayds SET owner_id = 'o-1'")
        .execute(&mut *tx)
        .await
        .unwrap();
    let verdict = take(&service, id, State::Instance, None, "one").await;
    assert!(matches!(verdict, Verdict::Busy(_)), "{verdict:?}");
    tx.rollback().await.unwrap();
    let verdict = take(&service, id, State::Instance, None, "one").await;
    assert!(matches!(verdict, Verdict::Taken(_)), "{verdict:?}");
}

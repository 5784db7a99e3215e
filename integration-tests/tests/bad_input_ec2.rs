//! EC2 that refuses, stalls or lets instances die: each shows in the row and in `gatewayzen why`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind};

fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(flat(text).contains(word), "`{word}` is not in: {text}");
    }
}

fn refuses(code: &str) -> FaultKind {
    FaultKind::Ec2Error {
        code: code.into(),
        action: Some("RunInstances".into()),
    }
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_a_fault_that_names_it() {
    let missing = "ami-00000000deadbeef";
    let bed = Bed::new(Options {
        settings: format!("ec2.allowed_amis = [\"{missing}\"]"),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    for (name, ami, words) in [
        ("missing", missing, ["InvalidAMIID", missing]),
        (
            "forbidden",
            "ami-00000000cafecafe",
            ["ami-00000000cafecafe", "allowed_amis"],
        ),
    ] {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO gatewayds (name, state, ami) VALUES ($1, 'instance', $2) RETURNING id",
        )
        .bind(name)
        .bind(ami)
        .fetch_one(&bed.database.app)
        .await
        .unwrap();
        let row = bed.parked(id).await;
        println!("{name}: {:?} {:?}", row.fault, row.unblock);
        says(
            &format!("{} {}", row.fault.unwrap(), row.unblock.unwrap()),
            &words,
        );
        says(&bed.why(name).await, &words);
    }
    // A release without an image of its own.
    sqlx::query("INSERT INTO gatewayds (name, state, release) VALUES ('no-image', 'instance', 'v9.9.9')")
        .execute(&bed.database.app)
        .await
        .unwrap();
    let id = bed
        .repository
        .gatewayd_named("no-image")
        .await
        .unwrap()
        .unwrap()
        .id;
    let row = bed.parked(id).await;
    says(&row.fault.unwrap(), &["v9.9.9"]);
    says(&bed.why("no-image").await, &["ec2.releases"]);
    // Mended: what the row chose is taken back, and the row retried.
    sqlx::query("UPDATE gatewayds SET release = NULL, state = state WHERE id = $1")
        .bind(id)
        .execute(&bed.database.app)
        .await
        .unwrap();
    bed.reached(id, State::Live).await;
    assert_eq!(
        bed.fleet
            .ledger()
            .count(|e| matches!(e.event, Event::Launched { .. })),
        1
    );
}

#[tokio::test]
async fn wrong_credentials_pause_the_worker_and_cost_no_attempt() {
    let bed = Bed::new(Options::default()).await;
    let wrong = [("AWS_ACCESS_KEY_ID", "AKIAWRONG")];
    let mut worker = bed.start_with("instance-worker", &wrong);
    let id = bed.launch("acme").await;
    let _dispatcher = bed.start("dispatcher");
    let row = bed.failing(id).await;
    println!("{:?} {:?}", row.last_error, row.unblock);
    says(&row.last_error.unwrap(), &["AuthFailure"]);
    // However often it is tried, no attempt is used up and nothing is parked.
    let tries = bed.row(id).await.last_error_at;
    eventually("another try", async || {
        let row = bed.row(id).await;
        assert!(row.fault.is_none(), "{:?}", row.fault);
        (row.last_error_at > tries && row.attempts == 0).then_some(())
    })
    .await;
    says(&bed.why("acme").await, &["AuthFailure", "credentials"]);
    worker.kill().await;
    let _workers = ["instance-worker", "ssh-worker", "wallet-worker"].map(|name| bed.start(name));
    bed.reached(id, State::Live).await;
}

#[tokio::test]
async fn no_capacity_backs_off_and_ends_in_a_fault_that_says_so() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("full", |id| {
            bed.fleet
                .fault(Fault::new(refuses("InsufficientInstanceCapacity")).on(id))
        })
        .await;
    let failing = bed.failing(id).await;
    says(
        &failing.last_error.unwrap(),
        &["InsufficientInstanceCapacity", "t3.small"],
    );
    let row = bed.parked(id).await;
    println!("{:?} {:?}", row.fault, row.unblock);
    says(
        &row.fault.unwrap(),
        &["InsufficientInstanceCapacity", "3 of 3 attempts"],
    );
    says(
        &bed.why("full").await,
        &["InsufficientInstanceCapacity", "3 of 3"],
    );
    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "full"]).await.unwrap();
    bed.reached(id, State::Live).await;
}

#[tokio::test]
async fn throttling_is_only_a_delay() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 10".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("slow", |id| {
            bed.fleet
                .fault(Fault::new(refuses("RequestLimitExceeded")).on(id).times(7))
        })
        .await;
    bed.reached(id, State::Live).await;
    assert_eq!(bed.fleet.hosts().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_of_ec2_launches_no_second_machine() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 10".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let lost = FaultKind::Ec2LosesReply {
        action: Some("RunInstances".into()),
    };
    let id = bed
        .launch_after("lost", |id| bed.fleet.fault(Fault::new(lost).on(id).times(5)))
        .await;
    bed.reached(id, State::Live).await;
    assert_eq!(
        bed.fleet
            .ledger()
            .count(|e| matches!(e.event, Event::Launched { .. })),
        1
    );
}

#[tokio::test]
async fn an_instance_that_dies_while_pending_is_told_and_replaced() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("dies", |id| {
            bed.fleet
                .fault(Fault::new(FaultKind::DiesPending).on(id).times(1))
        })
        .await;
    let row = bed.failing(id).await;
    println!("{:?}", row.last_error);
    says(&row.last_error.unwrap(), &["Server.InternalError", "i-"]);
    bed.reached(id, State::Live).await;
    let always = bed
        .launch_after("always-dies", |id| {
            bed.fleet.fault(Fault::new(FaultKind::DiesPending).on(id))
        })
        .await;
    let row = bed.parked(always).await;
    says(&row.fault.unwrap(), &["Server.InternalError", "3 of 3 attempts"]);
    says(&bed.why("always-dies").await, &["Server.InternalError"]);
    let alive = bed.fleet.hosts().iter().filter(|h| h.state == "running").count();
    assert_eq!(alive, 1, "only the machine of the row that lives");
}

#[tokio::test]
async fn an_instance_that_never_gets_an_address_is_parked_at_the_deadline() {
    let bed = Bed::new(Options {
        settings: "deadlines.instance = \"3s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("nowhere", |id| {
            bed.fleet.fault(Fault::new(FaultKind::NoAddress).on(id))
        })
        .await;
    let waiting = eventually("the row to say what it waits for", async || {
        bed.row(id).await.waiting_for
    })
    .await;
    println!("{waiting}");
    let row = bed.parked(id).await;
    says(
        &row.fault.unwrap(),
        &[
            "deadline of 3 s",
            "private address",
            row.instance_id.as_deref().unwrap(),
        ],
    );
    says(&bed.why("nowhere").await, &["deadline of 3 s", "private address"]);
    // It can still be ended.
    bed.write_state(id, State::Terminate).await.unwrap();
    bed.reached(id, State::Terminated).await;
    assert!(bed.fleet.hosts().iter().all(|h| h.state == "terminated"));
}

#[tokio::test]
async fn ending_a_row_in_mid_launch_ends_its_machine() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let lost = FaultKind::Ec2LosesReply {
        action: Some("RunInstances".into()),
    };
    let id = bed
        .launch_after("regret", |id| bed.fleet.fault(Fault::new(lost).on(id).times(3)))
        .await;
    bed.fleet
        .ledger()
        .wait_for(|e| matches!(e.event, Event::Launched { .. }))
        .await;
    bed.write_state(id, State::Terminate).await.unwrap();
    bed.reached(id, State::Terminated).await;
    assert!(
        bed.fleet.hosts().iter().all(|h| h.state == "terminated"),
        "{:?}",
        bed.fleet.hosts()
    );
    assert_eq!(bed.fleet.hosts().len(), 1);
}

#[tokio::test]
async fn a_row_that_never_launched_ends_at_once() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id: i64 = sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ('never') RETURNING id")
        .fetch_one(&bed.database.app)
        .await
        .unwrap();
    bed.write_state(id, State::Terminate).await.unwrap();
    bed.reached(id, State::Terminated).await;
    assert!(bed.fleet.hosts().is_empty());
}

//! Whoever dies between the parking of a row and its entry in Resque's list `failed`: the row says why all the same, and goes
//! on by the doors that need no entry.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, eventually};
use integration_tests::simulated_fleet::{Config, Fault, FaultKind};

use crate::sweep::sweep;
use crate::witness::nothing_is_broken;
use crate::workers::{CIRCLE, bed, new_row, start_with_stops, walk, write};

/// Starts a service, and kills it when it stands at the point.
async fn dies_at(bed: &Bed, service: &'static str, point: &str) {
    let mut process = start_with_stops(bed, service, [&point.to_owned()]);
    eventually(&format!("{service} to stop at {point}"), async || {
        process.is_stopped().then_some(())
    })
    .await;
    process.kill().await;
}

/// The row is parked with this in its fault; `why` says so, and that no Resque tool can retry it.
async fn says_why(bed: &Bed, id: i64, name: &str, fault: &str) {
    let row = bed.row(id).await;
    assert!(
        row.fault.as_deref().is_some_and(|f| f.contains(fault)),
        "{:?}",
        row.fault
    );
    assert_eq!(
        bed.queue().await.failed_count().await.unwrap(),
        0,
        "it died before the entry"
    );
    let why = bed.why(name).await;
    assert!(why.contains(fault), "{why}");
    assert!(
        row.state == State::Live || why.contains("the list of failed jobs has no entry of this fault"),
        "{why}"
    );
}

#[tokio::test]
async fn a_worker_that_dies_as_it_parks_a_row_leaves_it_with_its_reason() {
    let bed = bed(Config::default(), "worker.max_attempts = 1\n").await;
    let _others = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let id = new_row(&bed, "acme").await;
    bed.fleet.fault(Fault::new(FaultKind::NoKey).on(id));
    write(&bed, id, State::Instance).await;
    dies_at(&bed, "ssh-worker", &format!("{id}:key:finish_step:after")).await;
    // The job comes back to another worker, which finds the row parked.
    let ssh_worker = bed.start("ssh-worker");
    eventually("the dead worker's job to come to another", async || {
        ssh_worker
            .log()
            .contains("nothing to do for this job")
            .then_some(())
    })
    .await;
    says_why(&bed, id, "acme", "key").await;
    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Live).await;
    nothing_is_broken(&bed).await;
}

/// A step that kills its worker, twice of two: the next worker parks the row, and dies too, before the entry.
#[tokio::test]
async fn a_worker_that_dies_as_it_parks_a_step_that_kills_leaves_it_with_its_reason() {
    let bed = bed(Config::default(), "worker.max_attempts = 2\n").await;
    let _others = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let id = new_row(&bed, "acme").await;
    write(&bed, id, State::Instance).await;
    for _ in 0..2 {
        dies_at(&bed, "ssh-worker", &format!("{id}:key:get_key:before")).await;
    }
    // A look that comes too early, when the dead worker's lease still stands, parks nothing.
    while bed.row(id).await.fault.is_none() {
        dies_at(&bed, "ssh-worker", &format!("{id}:key:take_lease:after")).await;
    }
    says_why(&bed, id, "acme", "begun 2 times and never ended").await;
    let _ssh_worker = bed.start("ssh-worker");
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Live).await;
    nothing_is_broken(&bed).await;
}

#[tokio::test]
async fn a_dispatcher_that_dies_as_it_parks_a_row_leaves_it_with_its_reason() {
    let bed = bed(Config::default(), "deadlines.instance = \"6s\"\n").await;
    let id = new_row(&bed, "acme").await;
    write(&bed, id, State::Instance).await;
    // Rounds before the deadline park nothing, and are let go on.
    let mut process = start_with_stops(&bed, "dispatcher", [&"dispatcher:push_failed:before".to_owned()]);
    loop {
        eventually("the dispatcher to stop", async || {
            process.is_stopped().then_some(())
        })
        .await;
        process.kill().await;
        if bed.row(id).await.fault.is_some() {
            break;
        }
        process = start_with_stops(&bed, "dispatcher", [&"dispatcher:push_failed:before".to_owned()]);
    }
    let _services = bed.start_all();
    says_why(&bed, id, "acme", "deadline").await;
    // By SQL this time.
    write(&bed, id, State::Instance).await;
    bed.reached(id, State::Live).await;
    nothing_is_broken(&bed).await;
}

#[tokio::test]
async fn a_sweeper_that_dies_as_it_parks_a_row_leaves_it_with_its_reason() {
    let bed = bed(Config::default(), "").await;
    let _others = ["dispatcher", "wallet-worker"].map(|name| bed.start(name));
    let id = new_row(&bed, "acme").await;
    let mut builders = ["instance-worker", "ssh-worker"].map(|name| bed.start(name));
    walk(&bed, id, CIRCLE[0]).await;
    for builder in &mut builders {
        builder.kill().await;
    }
    // In a state with a step, which has an entry to lose; and nobody there who takes the step.
    write(&bed, id, State::Stop).await;
    bed.fleet.kill(&bed.row(id).await.instance_id.unwrap());
    let ((), report) = tokio::join!(
        async {
            dies_at(&bed, "instance-worker", "sweep:park_gone:after").await;
            builders[0] = bed.start("instance-worker");
        },
        sweep(&bed, &["--act"]),
    );
    println!("{report:?}");
    says_why(&bed, id, "acme", "is gone").await;
    builders[1] = bed.start("ssh-worker");
    walk(&bed, id, CIRCLE[4]).await;
    walk(&bed, id, CIRCLE[0]).await;
    nothing_is_broken(&bed).await;
}

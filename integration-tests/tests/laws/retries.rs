//! A retry is the same wherever it comes from.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually, npm_peer};
use integration_tests::simulated_fleet::{Fault, FaultKind};

/// The doors by which a retry comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Command,
    Sql,
    Resque,
}

const DOORS: [Door; 3] = [Door::Command, Door::Sql, Door::Resque];

/// A fault that parks a row in a state at its first attempt.
fn fault_in(state: State) -> FaultKind {
    let exits = |command: &str| FaultKind::CommandExits {
        command: Some(command.into()),
        status: 1,
    };
    let refused = |action: &str| FaultKind::Ec2Error {
        code: "InvalidParameterValue".into(),
        action: Some(action.into()),
    };
    match state {
        State::Instance => refused("RunInstances"),
        State::Key => FaultKind::NoKey,
        State::Start => exits("start"),
        State::Wallet => FaultKind::Api401,
        State::Stop => exits("stop"),
        State::Update => exits("fetch"),
        State::Terminate => refused("TerminateInstances"),
        other => panic!("{other} is idle"),
    }
}

async fn un_parked(bed: &Bed, id: i64) {
    eventually("the retry to arrive", async || {
        bed.row(id).await.fault.is_none().then_some(())
    })
    .await;
}

struct Patient {
    id: i64,
    name: String,
    door: Door,
    state: State,
}

async fn all_parked(bed: &Bed, patients: &[Patient]) {
    for patient in patients {
        let row = bed.parked(patient.id).await;
        assert_eq!(row.state, patient.state, "{}: {:?}", patient.name, row.fault);
    }
}

/// What is left to compare of a row: without names, times, addresses and machines, which are each row's own.
async fn shape(bed: &Bed, id: i64) -> String {
    let row = bed.row(id).await;
    let history = bed.repository.history(id).await.unwrap();
    let events: Vec<String> = history
        .iter()
        .map(|h| {
            format!(
                "{} {} -> {} ({})",
                h.event,
                h.from_state.as_deref().unwrap_or(""),
                h.to_state,
                h.generation
            )
        })
        .collect();
    format!(
        "{} generation {} attempts {} error {:?} waiting {:?} next {:?} fault {:?} unblock {:?}; {}",
        row.state,
        row.generation,
        row.attempts,
        row.last_error,
        row.waiting_for,
        row.next_try_at,
        row.fault,
        row.unblock,
        events.join(", ")
    )
}

#[tokio::test]
async fn a_retry_from_anywhere_is_the_same() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 1".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let working: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| state.is_working())
        .collect();
    assert_eq!(working.len(), 7);
    let mut patients = Vec::new();
    for state in working {
        for door in DOORS {
            let name = format!("{state}-{door:?}").to_lowercase();
            // Those of the first walk meet their fault on it, the others walk to `live` first.
            let first_walk = matches!(state, State::Instance | State::Key | State::Start | State::Wallet);
            let id = bed
                .launch_after(&name, |id| {
                    if first_walk {
                        bed.fleet.fault(Fault::new(fault_in(state)).on(id));
                    }
                })
                .await;
            patients.push(Patient {
                id,
                name,
                door,
                state,
            });
        }
    }
    for patient in &patients {
        if matches!(patient.state, State::Stop | State::Update | State::Terminate) {
            bed.reached(patient.id, State::Live).await;
            bed.fleet
                .fault(Fault::new(fault_in(patient.state)).on(patient.id));
            sqlx::query("UPDATE gatewayds SET release = 'v3.34.2', state = $2 WHERE id = $1")
                .bind(patient.id)
                .bind(patient.state.name())
                .execute(&bed.database.app)
                .await
                .unwrap();
        }
    }
    all_parked(&bed, &patients).await;
    let queue = bed.queue().await;
    eventually("an entry in failed for each", async || {
        (queue.failed_count().await.unwrap() == patients.len()).then_some(())
    })
    .await;

    bed.fleet.clear_faults();
    for patient in patients.iter().filter(|p| p.door == Door::Command) {
        bed.gatewayzen(&["retry", &patient.name]).await.unwrap();
    }
    for patient in patients.iter().filter(|p| p.door == Door::Sql) {
        sqlx::query("UPDATE gatewayds SET state = state WHERE id = $1")
            .bind(patient.id)
            .execute(&bed.database.app)
            .await
            .unwrap();
    }
    // The foreign tool queues every entry again, also those of the rows that go on already: these change nothing.
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;

    let mut shapes = Vec::new();
    for patient in &patients {
        un_parked(&bed, patient.id).await;
        let end = match patient.state {
            State::Stop | State::Update => State::Stopped,
            State::Terminate => State::Terminated,
            _ => State::Live,
        };
        bed.reached(patient.id, end).await;
        shapes.push(shape(&bed, patient.id).await);
    }
    for (patients, shapes) in patients.chunks(DOORS.len()).zip(shapes.chunks(DOORS.len())) {
        let state = patients[0].state;
        assert_eq!(shapes[0].matches("retried").count(), 1, "{state}: {}", shapes[0]);
        assert_eq!(shapes[0], shapes[1], "{state}: by the command and by SQL");
        assert_eq!(shapes[0], shapes[2], "{state}: by the command and by Resque");
    }
    assert_eq!(queue.failed_count().await.unwrap(), 0);
}

/// Parked by the dispatcher, no worker having had it in hand: its entry in `failed` comes from the dispatcher too.
#[tokio::test]
async fn a_row_that_the_dispatcher_parked_is_retried_by_resque_too() {
    let bed = Bed::new(Options {
        settings: "deadlines.instance = \"6s\"".into(),
        ..Options::default()
    })
    .await;
    let dispatcher = bed.start("dispatcher");
    let id = bed.launch("acme").await;
    let parked = bed.parked(id).await;
    let queue = bed.queue().await;
    eventually("its entry in failed", async || {
        (queue.failed_count().await.unwrap() == 1).then_some(())
    })
    .await;
    let entry = &queue.failed(0, 1).await.unwrap()[0];
    assert_eq!(
        (entry.queue.as_str(), entry.exception.as_str()),
        ("initializeEc2Instance", "Overdue")
    );
    assert_eq!(Some(&entry.error), parked.fault.as_ref());
    let why = bed.why("acme").await;
    assert!(why.contains("queue entry 0 of the failed jobs again"), "{why}");
    drop(dispatcher);
    let _workers = ["instance-worker", "ssh-worker", "wallet-worker"].map(|name| bed.start(name));
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;
    un_parked(&bed, id).await;
    let row = bed.reached(id, State::Live).await;
    assert!(row.generation > parked.generation);
}

/// Waits until the row's history says that it was retried by Resque: what comes of it may be over at once.
async fn retried(bed: &Bed, id: i64) {
    eventually("the retry to be written", async || {
        let history = bed.repository.history(id).await.unwrap();
        let queued_again = |why: &str| why.contains("queued again");
        history
            .iter()
            .any(|h| h.event == "retried" && h.why.as_deref().is_some_and(queued_again))
            .then_some(())
    })
    .await;
}

/// The one entry in `failed`: its queue and what kind of failure it is.
async fn entry(bed: &Bed) -> (String, String) {
    let queue = bed.queue().await;
    eventually("its entry in failed", async || {
        (queue.failed_count().await.unwrap() == 1).then_some(())
    })
    .await;
    let entry = queue.failed(0, 1).await.unwrap().remove(0);
    (entry.queue, entry.exception)
}

#[tokio::test]
async fn a_row_whose_machine_is_gone_is_retried_by_resque_too() {
    let bed = Bed::new(Options::default()).await;
    let _services = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let ssh_worker = bed.start("ssh-worker");
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    drop(ssh_worker);
    bed.write_state(id, State::Stop).await.unwrap();
    bed.fleet.kill(&bed.row(id).await.instance_id.unwrap());
    // Its exit code says that there is something to look at.
    let _ = bed.gatewayzen(&["sweep", "--act"]).await;
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains("is gone"), "{fault}");
    assert_eq!(entry(&bed).await, ("stopGatewayd".into(), "MachineGone".into()));
    let _ssh_worker = bed.start("ssh-worker");
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;
    retried(&bed, id).await;
}

#[tokio::test]
async fn a_row_whose_step_killed_its_workers_is_retried_by_resque_too() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 1".into(),
        ..Options::default()
    })
    .await;
    let _services = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let id = bed.launch("acme").await;
    let stop = format!("[\"{id}:key:get_key:before\"]");
    let mut victim = bed.start_with("ssh-worker", &[("GATEWAYZEN_TESTING__STOP_AT", &stop)]);
    eventually("the worker to be in the step", async || {
        victim.is_stopped().then_some(())
    })
    .await;
    victim.kill().await;
    let _ssh_worker = bed.start("ssh-worker");
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains("begun 1 times and never ended"), "{fault}");
    assert_eq!(entry(&bed).await, ("retrieveApiKey".into(), "Exhausted".into()));
    npm_peer("node-resque", &["requeue", &bed.redis_url, &bed.namespace]).await;
    retried(&bed, id).await;
    bed.reached(id, State::Live).await;
}

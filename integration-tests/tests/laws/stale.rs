//! A worker that was given up for dead and wakes up changes nothing: neither in the database nor in the world.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use gatewayzen_core::{State, Step};
use integration_tests::harness::{Bed, PATIENCE, ServiceProcess, eventually};
use integration_tests::simulated_fleet::{Config, Entry, Event, Fault, FaultKind};

use crate::witness::nothing_is_broken;
use crate::workers::{bed, new_row, start_with_stops, walk, write};

/// How a row gets to each working state: the writes that bring it there, and the last one.
fn way_to(state: State) -> (Vec<(State, State)>, (State, State)) {
    let live = (State::Instance, State::Live);
    match state {
        State::Stop => (vec![live], (State::Stop, State::Stopped)),
        State::Update => (vec![live], (State::Update, State::Stopped)),
        State::Terminate => (vec![live], (State::Terminate, State::Terminated)),
        _ => (vec![], live),
    }
}

/// In which world the sleeper wakes up.
#[derive(Clone, Copy, PartialEq)]
enum Later {
    /// The row has walked on.
    WalkedOn,
    /// The row is in the same state again, in a later walk, and on hold: nobody has its lease.
    SameStateAgain,
}

/// What comes after the step that ended in this state.
fn walked_on(ended_in: State) -> Vec<(State, State)> {
    match ended_in {
        State::Live => vec![(State::Stop, State::Stopped), (State::Start, State::Live)],
        State::Stopped => vec![(State::Start, State::Live)],
        _ => vec![(State::Instance, State::Live)],
    }
}

/// How the row comes to the same state again: whole legs, and the last write.
fn round_again(state: State) -> (Vec<(State, State)>, State) {
    match state {
        State::Start | State::Wallet => (vec![(State::Stop, State::Stopped)], State::Start),
        State::Stop => (vec![(State::Start, State::Live)], State::Stop),
        State::Update => (vec![], State::Update),
        State::Terminate => (vec![(State::Instance, State::Live)], State::Terminate),
        _ => (vec![(State::Terminate, State::Terminated)], State::Instance),
    }
}

fn worker_of(state: State) -> &'static str {
    state.step().map(Step::worker).expect("a working state")
}

/// One step, one moment in it: a worker is frozen there, another one takes over, the row walks on, the sleeper wakes up.
async fn sleeper(state: State, point: &str, later: Later) {
    let bed = bed(Config::default(), "").await;
    let id = new_row(&bed, "acme").await;
    let (before, last) = way_to(state);
    let services = bed.start_all();
    for leg in before {
        walk(&bed, id, leg).await;
    }
    drop(services);

    // Only the sleeper can take the step; the other workers are there for the steps before it.
    let queue = state.step().expect("a step").queue();
    let others = |sleeping: bool| -> Vec<ServiceProcess> {
        let names = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"];
        names
            .into_iter()
            .filter_map(|name| match sleeping && name == worker_of(state) {
                false => Some(bed.start(name)),
                true => {
                    let queues: Vec<String> = Step::ALL
                        .into_iter()
                        .filter(|step| step.worker() == name && step.queue() != queue)
                        .map(|step| format!("{:?}", step.queue()))
                        .collect();
                    let queues = format!("[{}]", queues.join(","));
                    (queues != "[]").then(|| bed.start_with(name, &[("GATEWAYZEN_WORKER__QUEUES", &queues)]))
                }
            })
            .collect()
    };
    let mut running = others(true);
    let stop = format!("{id}:{state}:{point}");
    let sleeper = start_with_stops(&bed, worker_of(state), [&stop]);
    write(&bed, id, last.0).await;
    eventually(&format!("the sleeper to stop at {stop}\n"), async || {
        sleeper.is_stopped().then_some(())
    })
    .await;
    running.extend(others(false));
    bed.reached(id, last.1).await;
    if later == Later::WalkedOn {
        for leg in walked_on(last.1) {
            walk(&bed, id, leg).await;
        }
    } else {
        running = others(true);
        let (legs, to) = round_again(state);
        for leg in legs {
            walk(&bed, id, leg).await;
        }
        write(&bed, id, to).await;
        bed.reached(id, state).await;
        bed.gatewayzen(&["hold", "acme", "--reason", "audit"])
            .await
            .unwrap();
    }

    let before = world(&bed, id).await;
    sleeper.signal("CONT").await;
    let words = [
        "step cut short",
        "step overtaken",
        "lease was lost",
        "outcome not written",
    ];
    let what = format!("the sleeper of {stop} to see that its time is over");
    let seen = eventually(&what, async || {
        let log = sleeper.log();
        let after = log.rsplit_once("stopped at a crash point")?.1;
        words.iter().any(|word| after.contains(word)).then_some(())
    });
    let seen = tokio::time::timeout(PATIENCE / 2, seen).await;
    assert_eq!(
        world(&bed, id).await,
        before,
        "{state}: the sleeper of {point} changed something"
    );
    // That it has changed nothing counts only once it has had its chance.
    assert!(
        seen.is_ok(),
        "the sleeper of {stop} does not see that its time is over:\n{}",
        bed.logs()
    );
    if later == Later::SameStateAgain {
        bed.gatewayzen(&["resume", "acme"]).await.unwrap();
        bed.reached(id, last.1).await;
    }
    nothing_is_broken(&bed).await;
    drop(running);
}

/// A command that was held up on its way, longer than the life of the worker that sent it: another one has done the step
/// since, and the row has walked on.
async fn late_command(state: State, command: &str) {
    let bed = bed(Config::default(), "").await;
    let id = new_row(&bed, "acme").await;
    let (before, last) = way_to(state);
    let mut services = bed.start_all();
    for leg in before {
        walk(&bed, id, leg).await;
    }
    let held_up = FaultKind::CommandHeldUp {
        command: Some(command.to_owned()),
        ms: 12_000,
    };
    bed.fleet.fault(Fault::new(held_up).on(id).times(1));
    write(&bed, id, last.0).await;
    eventually("the command to be on its way", async || {
        (!bed.fleet.faults_happened().is_empty()).then_some(())
    })
    .await;
    for worker in services.iter_mut().filter(|service| service.name == "ssh-worker") {
        worker.kill().await;
    }
    services.push(bed.start("ssh-worker"));
    bed.reached(id, last.1).await;
    for leg in walked_on(last.1) {
        walk(&bed, id, leg).await;
    }
    let before = world(&bed, id).await;
    let refused = bed
        .fleet
        .ledger()
        .wait_for(|e| matches!(&e.event, Event::CommandRefused { name } if name == command));
    let refused = tokio::time::timeout(PATIENCE / 2, refused).await;
    assert_eq!(
        world(&bed, id).await,
        before,
        "{state}: a `{command}` of the past changed something"
    );
    assert!(refused.is_ok(), "{state}: the late `{command}` was not refused");
    nothing_is_broken(&bed).await;
}

/// Everything that a stale worker could have changed.
async fn world(bed: &Bed, id: i64) -> (String, Vec<String>, Vec<String>) {
    let row: String = sqlx::query_scalar(
        "SELECT (to_jsonb(g) - 'due_at')::text || coalesce((SELECT jsonb_agg(to_jsonb(a) ORDER BY a.id)::text \
         FROM launch_attempts a), '') || coalesce((SELECT jsonb_agg(to_jsonb(k))::text FROM api_keys k), '') || (SELECT count(*) FROM gatewayd_history)::text FROM gatewayds g WHERE id = $1",
    )
    .bind(id)
    .fetch_one(&bed.database.admin)
    .await
    .unwrap();
    let machines = bed
        .fleet
        .hosts()
        .into_iter()
        .map(|host| {
            format!(
                "{} {} {:?} {:?} {}",
                host.instance, host.state, host.running_wallet, host.pids, host.release
            )
        })
        .collect();
    let changes = bed
        .fleet
        .ledger()
        .entries()
        .iter()
        .filter(|e| changes(e))
        .map(|e| format!("{e:?}"))
        .collect();
    (row, machines, changes)
}

/// A question that is asked late changes nothing, a launch that is repeated makes no machine, and what was begun before comes up
/// by itself.
fn changes(entry: &Entry) -> bool {
    !matches!(
        entry.event,
        Event::Command { .. }
            | Event::CommandRefused { .. }
            | Event::LaunchRepeated { .. }
            | Event::TerminateAsked
            | Event::HostUp { .. }
            | Event::Listening { .. }
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_worker_changes_nothing() {
    // Before an effect in the world or a write; and before the outcome, in each step.
    let moments = BTreeMap::from([
        (
            State::Instance,
            ["open_launch_attempt:before", "RunInstances:before"],
        ),
        (State::Key, ["get_key:before", "keep_api_key:before"]),
        (State::Start, ["start:before", "saved_wallet:before"]),
        (
            State::Wallet,
            ["keep_wallet:before", "POST /v1/config/wallets/cold:before"],
        ),
        (State::Stop, ["stop:before", "stop:after"]),
        (State::Update, ["checkout:before", "migrate:before"]),
        (
            State::Terminate,
            ["TerminateInstances:before", "end_launch_attempt:before"],
        ),
    ]);
    for n in 0..2 {
        let sleepers = moments
            .iter()
            .map(|(state, points)| sleeper(*state, points[n], Later::WalkedOn));
        join_all(sleepers).await;
    }
    let late = [
        (State::Stop, "stop"),
        (State::Start, "start"),
        (State::Update, "checkout"),
    ];
    join_all(late.map(|(state, command)| late_command(state, command))).await;
    let outcome = "finish_step:before";
    join_all(
        moments
            .keys()
            .map(|state| sleeper(*state, outcome, Later::SameStateAgain)),
    )
    .await;
}

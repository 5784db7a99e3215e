//! Nothing waits for ever, and nobody is blamed for an outage.

use std::time::Duration;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};

const DEADLINE: Duration = Duration::from_secs(4);
/// What may come on top: a step that is in hand when the deadline passes ends first (at most 20 s, `worker.step_timeout`), and whoever
/// sees that parks the row.
const SLACK: Duration = Duration::from_secs(30);

/// Attempts never run out here: only the deadline ends these waits.
const DEADLINES: &str = "
worker.max_attempts = 1000000
ssh.boot_grace = \"1s\"
gatewayd.update_timeout = \"3s\"
worker.step_timeout = \"20s\"
deadlines.instance = \"4s\"
deadlines.key = \"4s\"
deadlines.start = \"4s\"
deadlines.wallet = \"4s\"
deadlines.stop = \"4s\"
deadlines.update = \"4s\"
deadlines.terminate = \"4s\"
";

struct Hang {
    state: State,
    fault: FaultKind,
    /// Words of the true reason; `|` stands between those of several moments.
    says: &'static str,
}

fn hang(state: State, fault: FaultKind, says: &'static str) -> Hang {
    Hang { state, fault, says }
}

fn hangs() -> Vec<Hang> {
    use FaultKind::*;
    let command = |name: &str| Some(name.to_owned());
    let ec2 = |code: &str, action: &str| Ec2Error {
        code: code.into(),
        action: command(action),
    };
    let hanging = |name: &str| CommandHangs {
        command: command(name),
    };
    let locked = |name: &str| CommandExits {
        command: command(name),
        status: 75,
    };
    let lost = |name: &str| CommandLosesReply {
        command: command(name),
    };
    let late = 3_600_000;
    vec![
        hang(State::Instance, NoAddress, "address"),
        hang(
            State::Instance,
            DiesPending,
            "came to nothing|EC2 to start|to run (EC2 says",
        ),
        hang(
            State::Instance,
            ec2("InsufficientInstanceCapacity", "RunInstances"),
            "InsufficientInstanceCapacity",
        ),
        hang(
            State::Instance,
            ec2("InternalError", "RunInstances"),
            "InternalError",
        ),
        hang(
            State::Instance,
            Ec2LosesReply {
                action: command("RunInstances"),
            },
            "RunInstances",
        ),
        hang(State::Key, HostNeverAnswers, "no login was done within"),
        hang(State::Key, ConnectionReset, "no SSH session"),
        hang(State::Key, hanging("get_key"), "get_key"),
        hang(State::Key, locked("tls"), "another command of GatewayZen"),
        hang(State::Key, lost("release"), "release"),
        hang(State::Key, NoKey, "no API key"),
        hang(State::Start, hanging("start"), "`start` on host"),
        hang(State::Start, NeverListens, "after `start`"),
        hang(
            State::Start,
            locked("saved_wallet"),
            "another command of GatewayZen",
        ),
        hang(State::Wallet, ApiSlow { ms: late }, "did not answer"),
        hang(State::Wallet, ApiCloses, "closed the connection"),
        hang(State::Wallet, ApiHtml500, "500"),
        hang(State::Stop, hanging("stop"), "`stop` on host"),
        hang(State::Stop, SessionHangs, "on host"),
        hang(State::Stop, StopLeavesProcess, "is not down"),
        hang(State::Stop, HostNeverAnswers, "no login was done within"),
        hang(
            State::Update,
            hanging("install"),
            "install|updateGatewayd took longer",
        ),
        hang(State::Update, locked("fetch"), "another command of GatewayZen"),
        hang(State::Update, ConnectionReset, "no SSH session"),
        hang(
            State::Terminate,
            ec2("InternalError", "TerminateInstances"),
            "InternalError",
        ),
        hang(
            State::Terminate,
            ec2("RequestLimitExceeded", "TerminateInstances"),
            "RequestLimitExceeded",
        ),
    ]
}

#[tokio::test]
async fn nothing_waits_for_ever() {
    let bed = Bed::new(Options {
        settings: DEADLINES.into(),
        ..Options::default()
    })
    .await;
    let _services = ["dispatcher", "instance-worker", "ssh-worker"].map(|name| bed.start(name));
    let hangs = hangs();
    let met: Vec<State> = hangs.iter().map(|hang| hang.state).collect();
    assert!(
        State::ALL
            .iter()
            .all(|state| state.is_working() == met.contains(state))
    );
    let mut ids = vec![0; hangs.len()];
    // The step before `wallet` speaks to gatewayd too: the API hangs when that step is over. Until a wallet-worker listens these rows are
    // on hold, where deadlines stand still: what they wait for is to be the API.
    let in_wallet: Vec<usize> = (0..hangs.len())
        .filter(|n| hangs[*n].state == State::Wallet)
        .collect();
    for n in &in_wallet {
        let name = format!("wallet-{n}");
        ids[*n] = bed.launch(&name).await;
        bed.reached(ids[*n], State::Wallet).await;
        bed.gatewayzen(&["hold", &name, "--reason", "until the API hangs"])
            .await
            .unwrap();
        bed.fleet.fault(Fault::new(hangs[*n].fault.clone()).on(ids[*n]));
    }
    let _wallet_worker = bed.start("wallet-worker");
    let queue = bed.queue().await;
    eventually("the wallet-worker to listen", async || {
        let workers = queue.workers().await.ok()?;
        let mut workers = workers.iter();
        workers
            .any(|worker| worker.listens_on("setColdWallet"))
            .then_some(())
    })
    .await;
    for n in &in_wallet {
        bed.gatewayzen(&["resume", &format!("wallet-{n}")]).await.unwrap();
    }
    let first_walk = |state| matches!(state, State::Instance | State::Key | State::Start);
    let later = |state| matches!(state, State::Stop | State::Update | State::Terminate);
    // Those that hang later walk to `live` first, on a quiet machine.
    for (n, hang) in hangs.iter().enumerate().filter(|(_, hang)| later(hang.state)) {
        ids[n] = bed.launch(&format!("{}-{n}", hang.state)).await;
    }
    for (n, hang) in hangs.iter().enumerate().filter(|(_, hang)| later(hang.state)) {
        bed.reached(ids[n], State::Live).await;
        bed.fleet.fault(Fault::new(hang.fault.clone()).on(ids[n]));
        sqlx::query("UPDATE gatewayds SET release = 'v3.34.2', state = $2 WHERE id = $1")
            .bind(ids[n])
            .bind(hang.state.name())
            .execute(&bed.database.app)
            .await
            .unwrap();
    }
    for (n, hang) in hangs
        .iter()
        .enumerate()
        .filter(|(_, hang)| first_walk(hang.state))
    {
        let name = format!("{}-{n}", hang.state);
        let fault = |id: i64| bed.fleet.fault(Fault::new(hang.fault.clone()).on(id));
        ids[n] = bed.launch_after(&name, fault).await;
    }
    for (id, hang) in ids.into_iter().zip(hangs) {
        let row = bed.parked(id).await;
        let case = format!(
            "{} with {:?}: {:?}, {:?}",
            hang.state, hang.fault, row.fault, row.unblock
        );
        assert_eq!(row.state, hang.state, "{case}\n{}", bed.logs());
        let fault = row.fault.unwrap();
        assert!(fault.contains("deadline"), "{case}");
        assert!(hang.says.split('|').any(|words| fault.contains(words)), "{case}");
        let unblock = row.unblock.unwrap();
        assert!(
            unblock.contains("retry") && !unblock.contains("by itself"),
            "{case}"
        );
        let parked = bed.repository.history(id).await.unwrap();
        let parked = parked.iter().rev().find(|h| h.event == "faulted").unwrap().at;
        let after = Duration::try_from(parked - row.clock_started_at).unwrap();
        assert!(after >= DEADLINE, "{case}: parked after {after:?}");
        assert!(after < DEADLINE + SLACK, "{case}: parked after {after:?}");
    }
}

/// No dispatcher ran, and Redis lost the jobs, for longer than the rows' deadline: when one runs again, the rows get their jobs
/// and the workers time to take them before anybody is parked.
#[tokio::test]
async fn an_outage_longer_than_a_deadline_parks_nobody() {
    let bed = Bed::new(Options {
        settings: "deadlines.key = \"8s\"".into(),
        ..Options::default()
    })
    .await;
    let _instance_worker = bed.start("instance-worker");
    let mut dispatcher = bed.start("dispatcher");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bed.launch(&format!("row-{n}")).await);
    }
    for id in &ids {
        bed.reached(*id, State::Key).await;
    }
    dispatcher.kill().await;
    bed.burn_redis().await;
    let _workers = ["ssh-worker", "wallet-worker"].map(|name| bed.start(name));
    eventually("all deadlines to pass", async || {
        for id in &ids {
            let row = bed.row(*id).await;
            if row.read_at - row.clock_started_at < Duration::from_secs(10) {
                return None;
            }
        }
        Some(())
    })
    .await;
    let _dispatcher = bed.start("dispatcher");
    for id in ids {
        bed.reached(id, State::Live).await;
    }
    let faults = bed
        .database
        .text("SELECT count(*)::text FROM gatewayd_history WHERE event = 'faulted'")
        .await;
    assert_eq!(faults, "0");
}

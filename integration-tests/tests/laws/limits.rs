//! No more at once than the settings allow, and nobody is held up for ever by a limit.

use std::collections::BTreeMap;

use gatewayzen_core::{State, Step};
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Config, Entry, Event, Fault, FaultKind, Times};

/// The most launches that were under way at once, as the ledger saw them.
fn most_at_once(entries: &[Entry]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for entry in entries {
        match entry.event {
            Event::Launched { .. } => now += 1,
            Event::Running => now -= 1,
            _ => {}
        }
        most = most.max(now);
    }
    most
}

#[tokio::test]
async fn no_more_launches_at_once_than_allowed_and_waiting_for_a_turn_costs_no_deadline() {
    let bed = Bed::new(Options {
        fleet: Config {
            times: Times {
                boot_ms: 1200,
                ..Times::default()
            },
            ..Config::default()
        },
        settings: "ec2.launches_at_once = 2\ndeadlines.instance = \"7s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    // Two processes that could each take the last place.
    let _second = bed.start("instance-worker");
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(bed.launch(&format!("row-{n}")).await);
    }
    eventually("a row to say what it waits for", async || {
        for id in &ids {
            if bed
                .row(*id)
                .await
                .waiting_for
                .is_some_and(|text| text.contains("ec2.launches_at_once"))
            {
                return Some(());
            }
        }
        None
    })
    .await;
    let mut longest = 0.0_f64;
    for id in &ids {
        bed.reached(*id, State::Live).await;
        let launched: f64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM a.created_at - g.created_at)::float8
             FROM launch_attempts a JOIN gatewayds g ON g.id = a.gatewayd_id WHERE g.id = $1",
        )
        .bind(id)
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
        longest = longest.max(launched);
    }
    let entries = bed.fleet.ledger().entries();
    assert_eq!(most_at_once(&entries), 2, "{entries:#?}");
    assert!(
        longest > 7.0,
        "no row waited longer than its deadline: {longest} s, so this shows nothing"
    );
}

#[tokio::test]
async fn a_launch_that_hangs_holds_its_turn_no_longer_than_its_deadline() {
    let bed = Bed::new(Options {
        settings: "ec2.launches_at_once = 1\ndeadlines.instance = \"8s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let hanging = bed
        .launch_after("hanging", |id| {
            bed.fleet.fault(Fault::new(FaultKind::NoAddress).on(id))
        })
        .await;
    bed.fleet
        .ledger()
        .wait_for(|e| e.gatewayd == hanging.to_string() && e.event == Event::Running)
        .await;
    let next = bed.launch("next").await;
    let fault = bed.parked(hanging).await.fault.unwrap();
    assert!(fault.contains("address"), "{fault}");
    // It has its machine still, and a machine in `instance` is a launch; but nobody works on it.
    bed.reached(next, State::Live).await;
}

/// Across processes it is the row's lease that leaves one step for one host: no command ever finds the host's lock taken, which is
/// there for a worker that does not know that its lease is lost. `ssh.sessions_per_host` bounds what is open in one process.
#[tokio::test]
async fn one_host_hears_one_worker_at_a_time() {
    let bed = Bed::new(Options {
        fleet: Config {
            times: Times {
                command_ms: 150,
                ..Times::default()
            },
            ..Config::default()
        },
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let _more = ["ssh-worker", "ssh-worker"].map(|name| bed.start(name));
    let queue = bed.queue().await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(bed.launch(&format!("row-{n}")).await);
    }
    for id in &ids {
        // As from a client that pushes the same job again and again.
        for step in [Step::RetrieveApiKey, Step::StartGatewayd] {
            eventually("the row to come to the step", async || {
                let row = bed.row(*id).await;
                (row.state == step.state() || row.state > step.state()).then_some(())
            })
            .await;
            for _ in 0..20 {
                let job = resque::payload(step.queue(), &[(*id).into()]);
                queue.push(step.queue(), &job).await.unwrap();
            }
        }
    }
    for id in ids {
        bed.reached(id, State::Live).await;
    }
    let mut commands = BTreeMap::<String, usize>::new();
    for entry in bed.fleet.ledger().entries() {
        if let Event::Command { name, waited, .. } = entry.event {
            assert!(!waited, "`{name}` met another command on {}", entry.instance);
            *commands.entry(entry.instance).or_default() += 1;
        }
    }
    assert_eq!(commands.len(), 3);
    assert!(commands.values().all(|number| *number >= 5), "{commands:?}");
}

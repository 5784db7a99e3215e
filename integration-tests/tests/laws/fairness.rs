//! One row's trouble is that row's alone.

use std::time::{Duration, Instant};

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options};
use integration_tests::simulated_fleet::{Fault, FaultKind};

/// Two slots, and rows that fail for as long as the test lasts.
const FEW_SLOTS: &str = "
worker.slots = 2
worker.max_attempts = 1000
ssh.connect_timeout = \"1s\"
ssh.boot_grace = \"100ms\"
";
const HANGING: u32 = 8;
const RESETTING: u32 = 4;
const GOOD: u32 = 4;

/// The hanging rows fill both slots: each holds one for a second, four rounds of that are between two turns of one row. A
/// good row takes two steps behind them, `key` and `start`, with a wait of at most one such round before the first. Twice
/// that is the bound. It breaks when the queue of `key`, never empty, goes before the queue of `start`; when a failing step
/// keeps its slot; and when the quick failures come back without a pause.
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_failing_row_starves_nobody() {
    let bed = Bed::new(Options {
        settings: FEW_SLOTS.into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let mut failing = Vec::new();
    for n in 0..HANGING + RESETTING {
        let fault = if n < HANGING {
            FaultKind::HostNeverAnswers
        } else {
            FaultKind::ConnectionReset
        };
        let name = format!("failing-{n}");
        let id = bed
            .launch_after(&name, |id| bed.fleet.fault(Fault::new(fault).on(id)))
            .await;
        failing.push(id);
    }
    for id in &failing {
        bed.failing(*id).await;
    }
    let begun = Instant::now();
    let mut good = Vec::new();
    for n in 0..GOOD {
        good.push(bed.launch(&format!("good-{n}")).await);
    }
    for id in good {
        bed.reached(id, State::Live).await;
    }
    let took = begun.elapsed();
    assert!(took < BOUND, "the good rows took {took:?}\n{}", bed.logs());
    for id in failing {
        let row = bed.row(id).await;
        assert_eq!((row.state, row.fault), (State::Key, None));
        // From its third attempt on a row waits at least half of the longest backoff, 250 ms, and so has taken no more than
        // this in all the time that this test may last.
        assert!(
            row.attempts < 200,
            "{} attempts of row {id}: no backoff",
            row.attempts
        );
    }
}

/// What EC2 refuses to one row, it refuses to that row: an AMI that is not subscribed to, or a right that is missing for it.
#[tokio::test]
async fn what_ec2_forbids_to_one_row_pauses_no_worker() {
    let bed = Bed::new(Options {
        // A pause would outlast the test's patience.
        settings: "worker.pause = \"10m\"\nworker.max_attempts = 4".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let mut forbidden = Vec::new();
    for (name, code) in [
        ("forbidden", "UnauthorizedOperation"),
        ("unsubscribed", "OptInRequired"),
    ] {
        let fault = FaultKind::Ec2Error {
            code: code.into(),
            action: Some("RunInstances".into()),
        };
        let id = bed
            .launch_after(name, |id| bed.fleet.fault(Fault::new(fault).on(id)))
            .await;
        bed.failing(id).await;
        forbidden.push((id, code));
    }
    let good = bed.launch("good").await;
    bed.reached(good, State::Live).await;
    for (id, code) in forbidden {
        let row = bed.parked(id).await;
        let fault = row.fault.unwrap();
        assert!(
            fault.contains(code) && fault.contains("after 4 of 4 attempts"),
            "{fault}"
        );
        assert!(
            row.unblock
                .unwrap()
                .contains("Allow the instance-worker's AWS identity")
        );
    }
}

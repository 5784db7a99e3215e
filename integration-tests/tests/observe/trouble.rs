//! The metrics that stand at nothing while all goes well, and that alerts hang on: each is seen to move.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, ServiceProcess, eventually};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use super::story::{becomes, expect};

/// The step that a worker freezes or dies in.
const KEY: [(&str, &str); 1] = [("queue", "retrieveApiKey")];

async fn bed() -> Bed {
    Bed::new(Options {
        settings: "health.listen = \"127.0.0.1:0\"".into(),
        ..Options::default()
    })
    .await
}

/// An ssh-worker that has a row's step in hand and waits for a command, while another one has nothing to do.
struct MidStep {
    bed: Bed,
    id: i64,
    holder: ServiceProcess,
    idle: ServiceProcess,
    /// Dispatcher, instance-worker, wallet-worker.
    others: Vec<ServiceProcess>,
}

impl MidStep {
    async fn begin() -> MidStep {
        let bed = bed().await;
        let others = ["dispatcher", "instance-worker", "wallet-worker"];
        let others = others.into_iter().map(|name| bed.start(name)).collect();
        let holder = bed.start("ssh-worker");
        let id = bed
            .launch_after("acme", |id| {
                // Held up, and not only slow: a slow one has the host's lock, for which the other worker would wait. And for so
                // long that nothing but its lease can end the step.
                let held_up = FaultKind::CommandHeldUp {
                    command: None,
                    ms: 60_000,
                };
                bed.fleet.fault(Fault::new(held_up).on(id).times(1));
            })
            .await;
        eventually("a command to be on its way", async || {
            (!bed.fleet.faults_happened().is_empty()).then_some(())
        })
        .await;
        let scrape = becomes(&holder, "gatewayzen_ssh_sessions", &[], 1.0).await;
        expect(&scrape, "gatewayzen_steps_in_hand", &[(&KEY, 1.0)]);
        // After the scrape: by then the holder's address is known.
        let idle = bed.start("ssh-worker");
        MidStep {
            bed,
            id,
            holder,
            idle,
            others,
        }
    }
}

#[tokio::test]
async fn a_worker_that_was_frozen_tells_that_it_lost_its_lease() {
    let story = MidStep::begin().await;
    let ended = |result| [KEY[0], ("result", result)];
    let steps = "gatewayzen_step_duration_seconds_count";

    story.holder.signal("STOP").await;
    story.bed.reached(story.id, State::Live).await;
    let scrape = story.idle.scrape().await;
    expect(&scrape, steps, &[(&ended("advance"), 1.0)]);
    expect(&scrape, "gatewayzen_leases_lost_total", &[(&[], 0.0)]);

    story.holder.signal("CONT").await;
    let scrape = becomes(&story.holder, steps, &ended("lost"), 1.0).await;
    expect(
        &scrape,
        "gatewayzen_leases_lost_total",
        &[(&KEY, 1.0), (&[], 1.0)],
    );
    expect(&scrape, "gatewayzen_steps_in_hand", &[(&[], 0.0)]);
    expect(&scrape, "gatewayzen_ssh_sessions", &[(&[], 0.0)]);
}

/// Takes a minute: the lease in Redis of a worker that died runs out after 45 s, which no setting changes.
#[tokio::test]
async fn whoever_takes_up_the_job_of_a_killed_worker_tells() {
    let mut story = MidStep::begin().await;
    story.holder.kill().await;
    // The row does not wait for the job: it is free again after its own lease.
    story.bed.reached(story.id, State::Live).await;

    let survivors: Vec<&ServiceProcess> = story.others.iter().chain([&story.idle]).collect();
    eventually("the dead worker's job to be put back", async || {
        let put_back = "a job whose worker died was put back";
        survivors
            .iter()
            .any(|service| service.log().contains(put_back))
            .then_some(())
    })
    .await;
    // Any worker may be the one that finds it, whatever its own queues are.
    let mut rescued = 0.0;
    for service in &survivors {
        let scrape = service.scrape().await;
        let put_back = [("result", "put_back")];
        rescued += scrape
            .value("gatewayzen_jobs_rescued_total", &put_back)
            .unwrap_or_default();
    }
    assert!(rescued >= 1.0, "{rescued}\n{}", story.bed.logs());

    // By now the job is of the past, and changes nothing.
    eventually("the job to be taken", async || {
        let scrape = story.idle.scrape().await;
        let stale = scrape.value("gatewayzen_jobs_total", &[KEY[0], ("verdict", "stale")]);
        (stale >= Some(1.0)).then_some(())
    })
    .await;
    story.bed.reached(story.id, State::Live).await;
}

#[tokio::test]
async fn another_wallet_on_a_server_is_counted_and_its_row_parked() {
    let bed = bed().await;
    let services = bed.start_all();
    let [dispatcher, _, _, wallet] = &services[..] else {
        panic!("four services")
    };
    let address = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
    let id = bed
        .launch_after("acme", |id| {
            let other = FaultKind::OtherWallet {
                address: address.into(),
            };
            bed.fleet.fault(Fault::new(other).on(id));
        })
        .await;
    let row = bed.parked(id).await;
    assert_eq!(row.state, State::Wallet);
    let fault = row.fault.unwrap();
    assert!(fault.contains(address), "{fault}");

    let checks = "gatewayzen_wallet_checks_total";
    let saw = |result| [("result", result)];
    let scrape = becomes(wallet, checks, &saw("another"), 1.0).await;
    for result in ["none", "ours", "no_answer"] {
        expect(&scrape, checks, &[(&saw(result), 0.0)]);
    }
    becomes(dispatcher, "gatewayzen_rows_parked", &[("state", "wallet")], 1.0).await;
}

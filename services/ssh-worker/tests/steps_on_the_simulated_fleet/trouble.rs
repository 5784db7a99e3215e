//! What any step may meet: another key than the known one, a row that lacks something, a command that goes wrong.

use std::time::Duration;

use gatewayzen_core::Next;
use integration_tests::simulated_fleet::FaultKind;

use crate::bench::Bench;
use crate::words::{permanent, says, some, transient};

#[tokio::test]
async fn a_wrong_host_key_and_a_wrong_fleet_key_are_faults_with_fingerprints() {
    let bench = Bench::new().await;
    let text = permanent(bench.step_with(7).await);
    says(
        &text,
        &[
            "refused the login of user \"ubuntu\"",
            "SHA256:",
            &bench.address,
            "ssh.key_file",
        ],
    );
    bench.fault(FaultKind::WrongHostKey);
    let text = permanent(bench.step().await);
    let (sentence, unblock) = text.split_once(" | ").unwrap();
    assert_eq!(sentence.matches("SHA256:").count(), 2, "{text}");
    says(sentence, &["is not the one that is known", &bench.address]);
    says(unblock, &["gatewayzen identity reset acme --fingerprint"]);
}

#[tokio::test]
async fn a_row_that_lacks_what_a_step_needs_says_which_step_makes_it() {
    let mut bench = Bench::new().await;
    bench.settings.hosts.connect_via = gatewayzen_bootstrap::settings::ConnectVia::Public;
    says(
        &permanent(bench.step().await),
        &["no public address", "initializeEc2Instance", "hosts.connect_via"],
    );
    bench.settings.hosts.connect_via = gatewayzen_bootstrap::settings::ConnectVia::Private;
    bench
        .execute("UPDATE launch_attempts SET ended_at = now(), ended_why = 'test'")
        .await;
    says(
        &permanent(bench.step().await),
        &["SSH host key", "initializeEc2Instance"],
    );
}

#[tokio::test]
async fn a_command_that_hangs_floods_or_fails_is_told_with_its_figures() {
    let mut bench = Bench::new().await;
    bench.settings.gatewayd.command_timeout = Duration::from_secs(1);
    bench.settings.gatewayd.lock_timeout = Duration::ZERO;
    let fails = async |bench: &Bench, kind: FaultKind, parts: &[&str]| {
        bench.fleet.clear_faults();
        bench.fault(kind);
        says(&transient(bench.step().await), parts);
    };
    let status = |status| FaultKind::CommandExits {
        command: some("tls"),
        status,
    };
    fails(
        &bench,
        status(2),
        &[
            "`tls` on host",
            "exit status 2",
            "simulated failure",
            "gatewayd.commands.tls",
        ],
    )
    .await;
    fails(
        &bench,
        status(124),
        &["`tls` on host", "did not end within its 1 s"],
    )
    .await;
    fails(&bench, status(137), &["`tls` on host", "was killed"]).await;
    let hangs = FaultKind::CommandHangs {
        command: some("release"),
    };
    fails(&bench, hangs, &["`release` on host", "no answer within 8s"]).await;
    bench.settings.ssh.output_limit = 8192;
    let floods = FaultKind::CommandFloods {
        command: some("release"),
    };
    fails(
        &bench,
        floods,
        &["`release` on host", "flooded standard output with more than"],
    )
    .await;

    bench.fleet.clear_faults();
    bench.fault(status(75));
    let Next::WaitUntil { waiting_for, .. } = bench.once(1).await.unwrap() else {
        panic!("not waiting")
    };
    says(
        &waiting_for,
        &["another command of GatewayZen on host", ".gatewayzen/lock"],
    );
}

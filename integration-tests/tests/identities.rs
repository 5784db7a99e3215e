//! Who a host is, how that is replaced and reset, and how the fleet goes over to another SSH key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use gatewayzen_core::repository::{HostLease, Outcome, Verdict};
use gatewayzen_core::ssh_key::Act;
use gatewayzen_core::{Facts, Gatewayd, State};
use integration_tests::harness::{Bed, Options, ServiceProcess};
use integration_tests::simulated_fleet::{Event, Fault, FaultKind, HostView};
use serde_json::Value;

fn host(bed: &Bed, row: &Gatewayd) -> HostView {
    let hosts = bed.fleet.hosts();
    let own = hosts
        .into_iter()
        .find(|host| Some(&host.instance) == row.instance_id.as_ref());
    own.expect("the row's machine")
}

/// What the database keeps of the host keys of a row's machine: pending, sealed user data, whether it was replaced.
async fn kept(bed: &Bed, id: i64) -> (Option<String>, Option<Vec<u8>>, bool) {
    sqlx::query_as(
        "SELECT pending_host_key, sealed_user_data, host_key_replaced_at IS NOT NULL AND launch_key_erased_at IS NOT NULL
         FROM launch_attempts WHERE gatewayd_id = $1 AND ended_at IS NULL",
    )
    .bind(id)
    .fetch_one(&bed.database.admin)
    .await
    .unwrap()
}

/// The host has a key of its own, the row knows it, and nothing is left of the launch's.
async fn has_a_key_of_its_own(bed: &Bed, id: i64) {
    let row = bed.row(id).await;
    let host = host(bed, &row);
    assert_eq!(row.host_key_fingerprint.as_ref(), Some(&host.host_key));
    assert!(host.launch_key_erased, "the host still has its user data");
    assert_eq!(kept(bed, id).await, (None, None, true));
    let installed: Vec<String> = bed
        .fleet
        .ledger()
        .entries()
        .into_iter()
        .filter(|entry| entry.instance == host.instance)
        .filter_map(|entry| match entry.event {
            Event::HostKeyInstalled { fingerprint } => Some(fingerprint),
            _ => None,
        })
        .collect();
    assert_eq!(
        installed,
        [host.host_key],
        "one key was made and installed, whoever died"
    );
}

/// The one service that a test kills, stopping at points of which each is met once.
struct Mortal<'a> {
    bed: &'a Bed,
    left: BTreeSet<String>,
    environment: Vec<(String, String)>,
    process: ServiceProcess,
    /// How much of the log was there before.
    read: usize,
    deaths: usize,
}

impl<'a> Mortal<'a> {
    fn start(bed: &'a Bed, left: BTreeSet<String>, environment: Vec<(String, String)>) -> Mortal<'a> {
        let process = Self::process(bed, &left, &environment);
        let read = process.log().len();
        Mortal {
            bed,
            left,
            environment,
            process,
            read,
            deaths: 0,
        }
    }

    fn process(bed: &Bed, left: &BTreeSet<String>, environment: &[(String, String)]) -> ServiceProcess {
        let stops = format!("{:?}", left.iter().collect::<Vec<_>>());
        let mut all: Vec<(&str, &str)> = environment
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        all.push(("GATEWAYZEN_TESTING__STOP_AT", &stops));
        bed.start_with("ssh-worker", &all)
    }

    /// Kills it wherever it stops, and starts it anew, until the work is done. Nobody died at these points in vain.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
            if self.process.is_stopped() {
                self.process.kill().await;
                self.deaths += 1;
                let log = self.process.log();
                let new = &log[self.read..];
                self.left
                    .retain(|point| !new.contains(&format!("point=\"{point}\"")));
                self.process = Self::process(self.bed, &self.left, &self.environment);
            }
        };
        assert_eq!(self.left, BTreeSet::new(), "nobody died there");
        done
    }
}

fn around(prefix: &str, effects: &[&str]) -> BTreeSet<String> {
    let moments = |effect| ["before", "after"].map(|moment| format!("{prefix}:{effect}:{moment}"));
    effects.iter().flat_map(moments).collect()
}

#[tokio::test]
async fn the_host_key_of_the_launch_is_replaced_and_whoever_has_it_is_refused_with_both_fingerprints() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let live = bed.reached(id, State::Live).await;
    has_a_key_of_its_own(&bed, id).await;

    // A machine in the middle that read the user data shows the launch's key, and proves that it has it.
    bed.fleet.fault(Fault::new(FaultKind::LaunchHostKey).on(id));
    bed.write_state(id, State::Stop).await.unwrap();
    let row = bed.parked(id).await;
    let (fault, unblock) = (row.fault.unwrap(), row.unblock.unwrap());
    println!("{fault}\n    {unblock}");
    assert_eq!(fault.matches("SHA256:").count(), 2, "{fault}");
    assert!(
        fault.contains(&format!("but {} is expected", live.host_key_fingerprint.unwrap())),
        "{fault}"
    );
    assert!(
        unblock.contains("gatewayzen identity reset acme --fingerprint SHA256:"),
        "{unblock}"
    );
    assert!(unblock.contains("somebody stands between"), "{unblock}");
    let pids = bed.fleet.hosts()[0].pids.len();
    assert!(pids > 0, "nothing was done on whatever that was");

    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    // Ended by its id: there is nothing left that could be replayed.
    bed.write_state(id, State::Terminate).await.unwrap();
    bed.reached(id, State::Terminated).await;
}

#[tokio::test]
async fn wherever_a_worker_dies_the_host_ends_with_one_key_which_is_known() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 100".into(),
        ..Options::default()
    })
    .await;
    let points = around(
        "key",
        &[
            "make_host_key",
            "keep_pending_host_key",
            "install_host_key",
            "promote_host_key",
            "erase_host_key",
            "forget_launch_key",
            "record_ssh_login",
        ],
    );
    let mut rows = Vec::new();
    for n in 0..points.len() {
        let sql = "INSERT INTO gatewayds (name) VALUES ($1) RETURNING id";
        let id: i64 = sqlx::query_scalar(sql)
            .bind(format!("row-{n}"))
            .fetch_one(&bed.database.app)
            .await
            .unwrap();
        rows.push(id);
    }
    let stops = rows
        .iter()
        .zip(points)
        .map(|(id, point)| format!("{id}:{point}"))
        .collect();
    let _services = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let mut worker = Mortal::start(&bed, stops, Vec::new());
    // One after the other: a death for one row in the midst of another's effect would spare that one its own.
    let walks = async {
        for id in &rows {
            bed.write_state(*id, State::Instance).await.unwrap();
            bed.reached(*id, State::Live).await;
        }
    };
    worker.until(walks).await;
    println!("{} rows, {} deaths", rows.len(), worker.deaths);
    assert_eq!(worker.deaths, rows.len());
    for id in rows {
        has_a_key_of_its_own(&bed, id).await;
    }
}

#[tokio::test]
async fn an_ssh_server_that_goes_on_showing_its_old_key_is_named_and_the_old_key_stays_good() {
    let bed = Bed::new(Options {
        settings: "worker.max_attempts = 1".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed
        .launch_after("deaf", |id| {
            bed.fleet.fault(Fault::new(FaultKind::LaunchHostKey).on(id))
        })
        .await;
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains("still shows the SSH host key SHA256:"), "{fault}");
    assert!(fault.contains("`install_host_key` gave it SHA256:"), "{fault}");
    assert!(
        kept(&bed, id).await.1.is_some(),
        "nothing is erased before the new key was met"
    );
    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "deaf"]).await.unwrap();
    bed.reached(id, State::Live).await;
    has_a_key_of_its_own(&bed, id).await;
}

#[tokio::test]
async fn an_operators_fingerprint_is_the_only_one_that_is_accepted_until_it_was_met() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let live = bed.reached(id, State::Live).await;
    let reset = async |fingerprint: &str, reason: &str| {
        let arguments = [
            "identity",
            "reset",
            "acme",
            "--fingerprint",
            fingerprint,
            "--reason",
            reason,
        ];
        bed.gatewayzen(&arguments).await
    };
    for bad in [
        "SHA256:short",
        "aa:bb",
        "MD5:aa",
        "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA!",
    ] {
        let (code, sentence) = reset(bad, "none").await.unwrap_err();
        assert_eq!(code, 1);
        assert!(
            sentence.contains("is no fingerprint: that of an SSH host key looks like"),
            "{sentence}"
        );
    }
    let (_, sentence) = reset(&"ab".repeat(32), " ").await.unwrap_err();
    assert!(
        sentence.contains("the audit wants a reason of 1 to 500 characters"),
        "{sentence}"
    );
    bed.gatewayzen(&["create", "imagined"]).await.unwrap();
    let arguments = [
        "identity",
        "reset",
        "imagined",
        "--fingerprint",
        &"ab".repeat(32),
        "--reason",
        "none",
    ];
    let (_, sentence) = bed.gatewayzen(&arguments).await.unwrap_err();
    assert!(
        sentence.contains("has no machine whose identity could be reset"),
        "{sentence}"
    );

    // The SSH host key. First a fingerprint that nobody has: the host as it was is refused as well.
    let nobodys = format!("SHA256:{}", "A".repeat(43));
    reset(&nobodys, "the disk was exchanged").await.unwrap();
    bed.write_state(id, State::Stop).await.unwrap();
    let fault = bed.parked(id).await.fault.unwrap();
    let former = live.host_key_fingerprint.unwrap();
    assert!(
        fault.contains(&format!(
            "its SSH host key is {former}, but {nobodys} is expected"
        )),
        "{fault}"
    );
    let new = bed.fleet.rekey(&live.instance_id.unwrap()).unwrap();
    reset(&new, "the disk was exchanged, read on its console")
        .await
        .unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    let known = bed
        .database
        .repository("gatewayzen_operator")
        .host_identity(id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(known.expected_host_key, None, "the key itself is pinned now");
    bed.fleet.fault(Fault::new(FaultKind::WrongHostKey).on(id));
    bed.write_state(id, State::Start).await.unwrap();
    let fault = bed.parked(id).await.fault.unwrap();
    assert!(fault.contains(&format!("but {new} is expected")), "{fault}");
    bed.fleet.clear_faults();

    // The certificate.
    let pinned = live.tls_fingerprint.unwrap();
    reset(&"AB:".repeat(32)[..95], "a mistake").await.unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    let row = bed.parked(id).await;
    let fault = row.fault.unwrap();
    let said = format!(
        "shows the certificate {pinned}, but the pinned one is {}",
        "ab".repeat(32)
    );
    assert!(fault.contains(&said), "{fault}");
    assert!(row.unblock.unwrap().contains("gatewayzen identity reset acme"));
    reset(&pinned, "the mistake is mended").await.unwrap();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    bed.reached(id, State::Live).await;

    let shown: Value = serde_json::from_str(
        &bed.gatewayzen(&["--json", "identity", "show", "acme"])
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(shown["host_key_fingerprint"], new);
    let resets = shown["resets"].as_array().unwrap();
    let actions: Vec<&str> = resets
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    let (ssh, tls) = ("reset-ssh-identity", "reset-tls-identity");
    assert_eq!(actions, [ssh, ssh, tls, tls]);
    assert_eq!(resets[0]["login"], "gatewayzen_operator");
    assert_eq!(resets[0]["details"]["former"], former);
    let text = bed.gatewayzen(&["identity", "show", "acme"]).await.unwrap();
    assert!(
        text.contains(&new) && text.contains("made on the host") && text.contains(&pinned),
        "{text}"
    );
}

/// Environment of an ssh-worker that knows the next key too.
fn with_next_key(bed: &Bed) -> Vec<(String, String)> {
    let file = bed.next_key_file.to_string_lossy().into_owned();
    vec![("GATEWAYZEN_SSH__NEXT_KEY_FILE".into(), file)]
}

fn start_with_next_key(bed: &Bed) -> ServiceProcess {
    Mortal::process(bed, &BTreeSet::new(), &with_next_key(bed))
}

/// Which of the two keys each host lets in.
fn admits(bed: &Bed) -> BTreeSet<Vec<&'static str>> {
    let [old, new] = &bed.fleet_keys;
    let word = |key: &String| match key {
        key if key == old => "old",
        key if key == new => "new",
        _ => "another",
    };
    bed.fleet
        .hosts()
        .iter()
        .map(|host| host.admits.iter().map(word).collect())
        .collect()
}

/// `gatewayzen ssh-key …`: its report, or the code and the sentence.
async fn ssh_key(bed: &Bed, act: &str) -> Result<String, (i32, String)> {
    bed.gatewayzen(&["ssh-key", act, "--reason", "the yearly one"])
        .await
}

#[tokio::test]
async fn a_fleet_goes_over_to_another_ssh_key_and_a_host_that_does_not_know_it_keeps_the_old_one_alive() {
    let bed = Bed::new(Options::default()).await;
    let mut services = bed.start_all();
    let mut ids = Vec::new();
    for name in ["acme", "held", "silent"] {
        ids.push(bed.launch(name).await);
    }
    for id in &ids {
        bed.reached(*id, State::Live).await;
    }
    let (_, sentence) = ssh_key(&bed, "rotate").await.unwrap_err();
    assert!(
        sentence.contains("ssh.next_key_file is not set in this ssh-worker's configuration"),
        "{sentence}"
    );
    let (_, sentence) = ssh_key(&bed, "retire").await.unwrap_err();
    assert!(
        sentence.contains("no rotation has ended that brought a new key"),
        "{sentence}"
    );

    services.remove(2).kill().await;
    let worker = start_with_next_key(&bed);
    bed.gatewayzen(&["hold", "held", "--reason", "an audit"])
        .await
        .unwrap();
    bed.fleet.fault(Fault::new(FaultKind::ConnectionReset).on(ids[2]));
    let (code, _) = ssh_key(&bed, "rotate").await.unwrap_err();
    assert_eq!(code, 1);
    let status = bed.gatewayzen(&["ssh-key", "status"]).await.unwrap();
    println!("{status}");
    let standing = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    assert_eq!(["acme", "held", "silent"].map(standing), ["both", "old", "old"]);
    let (code, sentence) = ssh_key(&bed, "retire").await.unwrap_err();
    assert_eq!(code, 1);
    assert!(
        sentence
            .contains("the old SSH key cannot be retired yet: 2 hosts have not been seen to let the new one")
            && sentence.contains("in: held, silent. Mend what keeps them"),
        "{sentence}"
    );
    assert!(
        bed.fleet
            .hosts()
            .iter()
            .all(|host| host.admits.contains(&bed.fleet_keys[0]))
    );

    bed.fleet.clear_faults();
    bed.gatewayzen(&["resume", "held"]).await.unwrap();
    println!("{}", ssh_key(&bed, "rotate").await.unwrap());
    // A host that is built meanwhile knows the old key from EC2, and is given the new one by its step `key`.
    let late = bed.launch("late").await;
    bed.reached(late, State::Live).await;
    assert_eq!(admits(&bed), BTreeSet::from([vec!["old", "new"]]));
    println!("{}", ssh_key(&bed, "retire").await.unwrap());
    assert_eq!(admits(&bed), BTreeSet::from([vec!["new"]]));
    ssh_key(&bed, "retire")
        .await
        .expect("done again, it changes nothing");
    bed.write_state(ids[0], State::Stop).await.unwrap();
    bed.reached(ids[0], State::Stopped).await;

    // The new key alone, in the place of the old one.
    drop(worker);
    let file = bed.next_key_file.to_string_lossy().into_owned();
    let _worker = bed.start_with("ssh-worker", &[("GATEWAYZEN_SSH__KEY_FILE", &file)]);
    bed.write_state(ids[1], State::Stop).await.unwrap();
    bed.reached(ids[1], State::Stopped).await;
    let audited: Vec<String> = sqlx::query_scalar("SELECT DISTINCT action FROM audit ORDER BY action")
        .fetch_all(&bed.database.admin)
        .await
        .unwrap();
    assert_eq!(audited, ["retire-ssh-key", "rotate-ssh-key"]);
}

#[tokio::test]
async fn a_rotation_that_is_killed_anywhere_goes_on_and_nobody_is_locked_out() {
    let bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(bed.launch(&format!("row-{n}")).await);
    }
    for id in &ids {
        bed.reached(*id, State::Live).await;
    }
    drop(services);
    let both = vec!["old", "new"];
    let of_every_run = ["begin_ssh_key_run", "release_from_ssh_key", "finish_ssh_key_run"];
    for (act, effects, left) in [
        (
            "rotate",
            ["lease_for_ssh_key", "authorize_key", "record_ssh_login"],
            &both,
        ),
        ("rotate", of_every_run, &both),
        (
            "retire",
            ["lease_for_ssh_key", "deauthorize_key", "record_ssh_login"],
            &vec!["new"],
        ),
        ("retire", of_every_run, &vec!["new"]),
    ] {
        let mut worker = Mortal::start(&bed, around("ssh-key", &effects), with_next_key(&bed));
        worker.until(ssh_key(&bed, act)).await.unwrap();
        println!("{act}: {} deaths", worker.deaths);
        assert_eq!(admits(&bed), BTreeSet::from([left.clone()]));
    }
    let leased: i64 = sqlx::query_scalar("SELECT count(*) FROM gatewayds WHERE lease_token IS NOT NULL")
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
    assert_eq!(leased, 0, "every row was given back");
    let _services = ["dispatcher", "instance-worker", "wallet-worker"].map(|name| bed.start(name));
    let _worker = start_with_next_key(&bed);
    for id in ids {
        assert_eq!(bed.row(id).await.state, State::Live);
        bed.write_state(id, State::Stop).await.unwrap();
        bed.reached(id, State::Stopped).await;
    }
}

#[tokio::test]
async fn a_rotation_and_a_step_never_have_a_row_at_once() {
    let bed = Bed::new(Options::default()).await;
    let services = bed.start_all();
    let id = bed.launch("acme").await;
    let row = bed.reached(id, State::Live).await;
    drop(services);
    let (worker, operator) = (
        bed.database.repository("gatewayzen_ssh_worker"),
        bed.database.repository("gatewayzen_operator"),
    );
    let long = Duration::from_secs(60);
    operator
        .ask_ssh_key_run(Act::Rotate, None, "a test")
        .await
        .unwrap()
        .unwrap();
    let run = worker.claim_ssh_key_run("one", long).await.unwrap().unwrap();
    assert!(
        worker.claim_ssh_key_run("two", long).await.unwrap().is_none(),
        "one run at a time"
    );
    let HostLease::Taken(lease) = worker.lease_for_ssh_key(&run, id, long).await.unwrap() else {
        panic!("the row is idle");
    };
    assert!(lease.number > 0 && lease.generation == row.generation);

    // A step waits for it, however it is asked for.
    bed.write_state(id, State::Stop).await.unwrap();
    let take = async || {
        worker
            .take_lease(id, State::Stop, None, "step", long, 3)
            .await
            .unwrap()
    };
    assert!(matches!(take().await, Verdict::Busy(_)));
    worker.release_from_ssh_key(&lease).await.unwrap();
    let Verdict::Taken(step) = take().await else {
        panic!("the row was given back");
    };
    assert!(
        step.number > lease.number,
        "the host refuses the rotation from here on"
    );
    // And the rotation for the step.
    assert_eq!(
        worker.lease_for_ssh_key(&run, id, long).await.unwrap(),
        HostLease::Busy
    );
    let key = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let late = worker.record_ssh_login(&lease, key, true).await.unwrap();
    assert!(
        late.or_overtaken().is_err(),
        "a rotation of the past writes nothing"
    );
    let outcome = Outcome::Advance {
        to: State::Stopped,
        facts: Facts::default(),
        why: "a test".into(),
    };
    worker.finish_step(&step, &outcome, long).await.unwrap();
    bed.gatewayzen(&["hold", "acme", "--reason", "an audit"])
        .await
        .unwrap();
    assert_eq!(
        worker.lease_for_ssh_key(&run, id, long).await.unwrap(),
        HostLease::Held
    );
    bed.gatewayzen(&["resume", "acme"]).await.unwrap();
    let HostLease::Taken(lease) = worker.lease_for_ssh_key(&run, id, long).await.unwrap() else {
        panic!("it goes on");
    };
    worker.release_from_ssh_key(&lease).await.unwrap();
    let due: Option<String> = sqlx::query_scalar("SELECT due_at::text FROM gatewayds WHERE id = $1")
        .bind(id)
        .fetch_one(&bed.database.admin)
        .await
        .unwrap();
    assert_eq!(due, None, "an idle row is not due because of it");
}

//! What can go wrong between two keys, on one host and with a whole run: each is told, and a host never ends without a key of
//! ours that it lets in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually, run};
use integration_tests::simulated_fleet::{Config, Event, Fault, FaultKind};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey};

use crate::fleet_key::{admits, ssh_key, start_with_next_key};

/// The host says that it did what it was told, and did nothing.
fn does_nothing(command: &str) -> FaultKind {
    FaultKind::CommandExits {
        command: Some(command.into()),
        status: 0,
    }
}

/// Why the last run did not do the one host.
async fn why(bed: &Bed) -> String {
    let text = "SELECT report #>> '{hosts,0,why}' FROM ssh_key_runs ORDER BY id DESC LIMIT 1";
    let why = bed.database.text(text).await;
    println!("{why}");
    why
}

/// The keys that the one host lets in, in no order.
fn lets_in(bed: &Bed) -> Vec<&'static str> {
    let mut all = admits(bed).pop_first().expect("a host");
    all.sort_unstable();
    all
}

/// What became of the old key on the one host, from the oldest to the latest.
fn fates_of_the_old_key(bed: &Bed) -> Vec<&'static str> {
    let old = &bed.fleet_keys[0];
    let entries = bed.fleet.ledger().entries();
    entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::LoginKeyAdded { fingerprint } if fingerprint == old => Some("added"),
            Event::LoginKeyRemoved { fingerprint } if fingerprint == old => Some("removed"),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn a_host_that_does_otherwise_than_it_was_told_keeps_a_key_that_it_lets_in() {
    let bed = Bed::new(Options {
        fleet: Config {
            keep_commands: true,
            ..Config::default()
        },
        ..Options::default()
    })
    .await;
    let mut services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    services.remove(2).kill().await;
    let _worker = start_with_next_key(&bed);
    let failed = async |act: &str| {
        let (code, _) = ssh_key(&bed, act).await.unwrap_err();
        assert_eq!(code, 1);
        why(&bed).await
    };
    let not_shown = "was told to change which of the fleet's SSH keys it lets in, and a new login did not show it: it refused the \
                     login of user";

    // The new key is not let in, whatever the command said.
    bed.fleet
        .fault(Fault::new(does_nothing("authorize_key")).on(id).times(1));
    let told = failed("rotate").await;
    assert!(told.contains(not_shown), "{told}");
    assert_eq!(lets_in(&bed), ["old"]);
    ssh_key(&bed, "rotate").await.unwrap();
    assert_eq!(lets_in(&bed), ["new", "old"]);

    // It was let in, and is not any more: the old one is the only way in.
    bed.fleet
        .fault(Fault::new(FaultKind::RefusesUserKey).on(id).times(1));
    let told = failed("retire").await;
    assert!(
        told.contains("does not let the new key in any more, so the old one stays there"),
        "{told}"
    );
    assert_eq!(lets_in(&bed), ["new", "old"]);

    // The old one stands in another file as well.
    bed.fleet
        .fault(Fault::new(does_nothing("deauthorize_key")).on(id).times(1));
    let told = failed("retire").await;
    assert!(
        told.contains("still lets the old key in, although it was taken out of the user's authorized_keys"),
        "{told}"
    );
    assert_eq!(lets_in(&bed), ["new", "old"]);
    assert_eq!(fates_of_the_old_key(&bed), [""; 0]);

    // With the old one out the new one is refused too: over the session that is left, both are put back. The host's command is
    // held up so long that the refusal comes after the session and before the login that looks.
    let asked = || {
        let lines = bed.fleet.command_lines();
        let is = |line: &&String| line.contains("GATEWAYZEN_COMMAND=deauthorize_key ");
        lines.iter().filter(is).count()
    };
    let before = asked();
    let held_up = FaultKind::CommandHeldUp {
        command: Some("deauthorize_key".into()),
        ms: 3000,
    };
    bed.fleet.fault(Fault::new(held_up).on(id).times(1));
    let refuses = async {
        eventually("the host to be told", async || (asked() > before).then_some(())).await;
        bed.fleet
            .fault(Fault::new(FaultKind::RefusesUserKey).on(id).times(1));
    };
    let (told, ()) = tokio::join!(failed("retire"), refuses);
    assert!(told.contains(not_shown), "{told}");
    assert_eq!(fates_of_the_old_key(&bed), ["removed", "added"]);
    assert_eq!(lets_in(&bed), ["new", "old"]);

    // Nothing of all that is in the way of the next try.
    ssh_key(&bed, "retire").await.unwrap();
    assert_eq!(lets_in(&bed), ["new"]);
    bed.write_state(id, State::Stop).await.unwrap();
    bed.reached(id, State::Stopped).await;
}

/// Another private key in a file; its fingerprint.
fn make_key(file: &Path) -> String {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    std::fs::write(file, key.to_openssh(LineEnding::LF).unwrap().as_bytes()).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    key.public_key().fingerprint(HashAlg::Sha256).to_string()
}

#[tokio::test]
async fn a_run_is_not_begun_in_a_halted_fleet_or_with_another_key_than_the_last_one_brought() {
    let bed = Bed::new(Options::default()).await;
    let mut worker = start_with_next_key(&bed);
    bed.gatewayzen(&["halt", "--why", "a cable is cut"])
        .await
        .unwrap();
    let (code, sentence) = ssh_key(&bed, "rotate").await.unwrap_err();
    let halted = "the rotate was not done: the fleet is halted (a cable is cut): mend the cause, then `gatewayzen resume --fleet \
                  --why ...`";
    assert!(code == 1 && sentence.contains(halted), "{sentence}");
    bed.gatewayzen(&["resume", "--fleet", "--why", "the cable is mended"])
        .await
        .unwrap();
    ssh_key(&bed, "rotate").await.unwrap();

    worker.kill().await;
    let file = bed.folder().join("third_fleet_key");
    let third = make_key(&file);
    let file = file.to_str().unwrap();
    let _worker = bed.start_with("ssh-worker", &[("GATEWAYZEN_SSH__NEXT_KEY_FILE", file)]);
    let (code, sentence) = ssh_key(&bed, "retire").await.unwrap_err();
    let other = format!(
        "the retire was not done: the last rotation brought the key {}, but ssh.next_key_file of this ssh-worker holds {third}: give \
         every ssh-worker the same two files",
        bed.fleet_keys[1]
    );
    assert!(code == 1 && sentence.contains(&other), "{sentence}");
}

#[tokio::test]
async fn the_next_key_is_not_the_present_one() {
    let bed = Bed::new(Options::default()).await;
    let file = bed.folder().join("fleet_key").to_str().unwrap().to_owned();
    let mut environment = bed.environment.clone();
    environment.push(("GATEWAYZEN_SSH__NEXT_KEY_FILE".to_owned(), file.clone()));
    let config = bed.config.to_str().unwrap();
    let done = run("ssh-worker", &["--config", config, "--check"], &environment).await;
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    let same = format!(
        "{file}: it holds the same key as ssh.key_file; make another one for the fleet to go over to"
    );
    assert!(!done.status.success() && said.contains(&same), "{said}");
}

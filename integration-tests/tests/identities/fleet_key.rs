//! The whole fleet goes over to another SSH key, and nobody is locked out on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use gatewayzen_core::repository::{HostLease, Outcome, Verdict};
use gatewayzen_core::ssh_key::Act;
use gatewayzen_core::{Facts, State};
use integration_tests::harness::{Bed, Options, ServiceProcess};
use integration_tests::simulated_fleet::{Fault, FaultKind};

use crate::mortal::{Mortal, around};

/// Environment of an ssh-worker that knows the next key too.
fn with_next_key(bed: &Bed) -> Vec<(String, String)> {
    let file = bed.next_key_file.to_string_lossy().into_owned();
    vec![("GATEWAYZEN_SSH__NEXT_KEY_FILE".into(), file)]
}

pub(crate) fn start_with_next_key(bed: &Bed) -> ServiceProcess {
    Mortal::process(bed, &BTreeSet::new(), &with_next_key(bed))
}

/// Which of the two keys each host lets in.
pub(crate) fn admits(bed: &Bed) -> BTreeSet<Vec<&'static str>> {
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
pub(crate) async fn ssh_key(bed: &Bed, act: &str) -> Result<String, (i32, String)> {
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

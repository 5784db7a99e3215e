//! `gatewayzen why` about real services: each answer is true, says what unblocks it, and has the row's own figures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, eventually};
use integration_tests::simulated_fleet::{Config, Fault, FaultKind, Times};
use serde_json::Value;

/// An answer of `why`.
struct Answer(Value);

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    fn details(&self) -> impl Iterator<Item = (&str, &str)> {
        let details = self.0["details"].as_array().unwrap();
        details.iter().map(|detail| {
            (
                detail["label"].as_str().unwrap(),
                detail["text"].as_str().unwrap(),
            )
        })
    }

    fn detail(&self, label: &str) -> &str {
        self.details()
            .find(|(known, _)| *known == label)
            .map_or("", |(_, text)| text)
    }

    /// All that it says, as people read it.
    fn text(&self) -> String {
        let details: Vec<String> = self
            .details()
            .map(|(label, text)| format!("{label} {text}\n"))
            .collect();
        let (headline, unblock) = (self.field("headline"), self.field("unblock"));
        format!("{headline}\n{}unblock {unblock}\n", details.concat())
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        let text = self.text();
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }
}

/// Waits until `why acme` gives this situation.
async fn why(bed: &Bed, situation: &str) -> Answer {
    why_that(bed, situation, |_| true).await
}

async fn why_that(bed: &Bed, situation: &str, and: impl Fn(&Answer) -> bool) -> Answer {
    let awaited = format!("why to tell of {situation}");
    let found = eventually(&awaited, async || {
        let answer = Answer(bed.why_json("acme").await);
        (answer.field("situation") == situation && and(&answer)).then_some(answer)
    });
    let answer = found.await;
    println!("{}", answer.text());
    answer
}

#[tokio::test]
async fn no_worker_listens() {
    let bed = Bed::new(Options::default()).await;
    let _dispatcher = bed.start("dispatcher");
    bed.launch("acme").await;
    let answer = why_that(&bed, "no_worker", |answer| {
        answer.detail("queue").contains("1 job")
    })
    .await;
    assert_eq!(
        answer.field("headline"),
        "its step (launching its EC2 instance) is due, but no instance-worker listens on the queue \
         initializeEc2Instance"
    );
    assert!(
        answer
            .field("unblock")
            .starts_with("Start the service instance-worker"),
        "{}",
        answer.text()
    );
    answer.says(&["0 of 3", "no worker", "moved by gatewayzen_app"]);
    assert!(!answer.text().contains("No dispatcher"), "{}", answer.text());
    // People read the same, in lines.
    let told = bed.why("acme").await;
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.starts_with(&format!("acme: {}.", answer.field("headline"))),
        "{told}"
    );
    assert_eq!(answer.0["attempts"], 0);
    assert_eq!(answer.0["max_attempts"], 3);
}

#[tokio::test]
async fn neither_a_dispatcher_nor_a_worker_runs() {
    let bed = Bed::new(Options::default()).await;
    bed.launch("acme").await;
    // Once the dispatcher had time enough, both causes are told.
    let answer = why_that(&bed, "no_worker", |answer| {
        answer
            .field("unblock")
            .contains("No dispatcher seems to run either: start one too.")
    })
    .await;
    answer.says(&[
        "no instance-worker listens",
        "Start the service instance-worker",
        "is one running?",
    ]);

    // With a worker the dispatcher is what is left.
    let _worker = bed.start("instance-worker");
    let answer = why(&bed, "not_pushed").await;
    answer.says(&[
        "no job of it is in the queue initializeEc2Instance: no dispatcher seems to run",
        "Start the service dispatcher",
        "50 slots",
    ]);
}

#[tokio::test]
async fn a_row_on_hold_says_who_holds_it_and_why() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let id = bed.launch_after("acme", |_| ()).await;
    bed.gatewayzen(&["hold", "acme", "--reason", "the subnet is rebuilt, see OPS-7"])
        .await
        .unwrap();
    let answer = why(&bed, "on_hold").await;
    answer.says(&[
        "on hold in state ",
        "the subnet is rebuilt, see OPS-7",
        "`gatewayzen resume acme` ends the hold",
    ]);
    let held = answer.detail("held since");
    assert!(
        held.contains("UTC") && held.ends_with(", by gatewayzen_operator"),
        "{held}"
    );
    assert_eq!(answer.field("hold"), "the subnet is rebuilt, see OPS-7");
    bed.gatewayzen(&["resume", "acme"]).await.unwrap();
    bed.reached(id, State::Live).await;
}

#[tokio::test]
async fn a_pending_instance_is_named_with_the_next_look() {
    let bed = Bed::new(Options {
        fleet: Config {
            times: Times {
                boot_ms: 600_000,
                ..Times::default()
            },
            ..Config::default()
        },
        // Long enough to be seen between two looks.
        settings: "ec2.poll = \"5s\"".into(),
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let answer = why(&bed, "waiting").await;
    let instance = bed.row(id).await.instance_id.unwrap();
    assert!(
        answer.field("headline").starts_with("waiting for "),
        "{}",
        answer.text()
    );
    answer.says(&[
        &instance,
        "next look",
        "then it is parked with a fault",
        "Nothing to do",
    ]);
    assert_eq!(answer.field("instance_id"), instance);
    assert_eq!(answer.0["attempts"], 0);
}

#[tokio::test]
async fn a_row_that_backs_off_says_which_attempt_failed_and_when_the_next_is() {
    let bed = Bed::new(Options {
        settings: "worker.backoff_first = \"40s\"\nworker.backoff_longest = \"60s\"".into(),
        ..Options::default()
    })
    .await;
    bed.fleet.fault(Fault::new(FaultKind::Ec2Error {
        code: "InsufficientInstanceCapacity".into(),
        action: Some("RunInstances".into()),
    }));
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let answer = why(&bed, "backing_off").await;
    assert_eq!(
        answer.field("headline"),
        "backing off: attempt 1 of 3 of step initializeEc2Instance failed"
    );
    assert!(
        answer
            .detail("last error")
            .contains("InsufficientInstanceCapacity"),
        "{}",
        answer.text()
    );
    let next = answer.detail("next try");
    assert!(
        next.contains("UTC") && next.contains("in ") && next.contains(" s"),
        "{next}"
    );
    answer.says(&[
        "ec2.instance_type or ec2.subnet",
        "To try at once: `gatewayzen retry acme`",
    ]);
    assert_eq!(answer.0["attempts"], 1);
    let next_try = bed.row(id).await.next_try_at.unwrap();

    // Mended, and tried at once.
    bed.fleet.clear_faults();
    bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    let row = bed.reached(id, State::Live).await;
    assert!(row.since < next_try);
    let answer = why(&bed, "live").await;
    assert_eq!(
        answer.field("headline"),
        "live: it is where it should be, and there is nothing to do"
    );
    answer.says(&["Nothing is blocked. It may be moved to stop, update or terminate."]);
}

#[tokio::test]
async fn a_step_in_hand_names_its_worker_and_attempt() {
    let bed = Bed::new(Options {
        settings: "gatewayd.command_timeout = \"60s\"".into(),
        ..Options::default()
    })
    .await;
    bed.fleet.fault(Fault::new(FaultKind::CommandHangs {
        command: Some("get_key".into()),
    }));
    let services = bed.start_all();
    bed.launch("acme").await;
    let answer = why_that(&bed, "in_hand", |answer| answer.field("state") == "key").await;
    assert_eq!(
        answer.field("headline"),
        "reading its API key and making its certificate (step retrieveApiKey, attempt 1 of 3)"
    );
    let ssh_worker = services
        .iter()
        .find(|service| service.name == "ssh-worker")
        .unwrap();
    let owner = answer.field("lease_owner");
    assert!(
        owner.starts_with("ssh-worker@") && owner.ends_with(&format!(":{}", ssh_worker.pid())),
        "{owner}"
    );
    answer.says(&[owner, "Nothing to do: the step is in hand."]);
}

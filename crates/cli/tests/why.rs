//! `why` on real rows: each situation as Postgres and Redis show it. The wording of each is tested in the crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "tests say what they expect by unwrapping it; the world is shared by several test files"
)]

mod world;

use std::time::Duration;

use gatewayzen_core::repository::Outcome;
use gatewayzen_core::{JobArgs, State, Step};
use world::World;

#[track_caller]
fn says(world: &World, situation: &str, parts: &[&str]) {
    let (found, text) = world.why("acme");
    assert_eq!(found, situation, "{text}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

fn in_instance() -> World {
    let world = World::new();
    world.ok(&["create", "acme"]);
    world.ok(&["move", "acme", "instance"]);
    world
}

#[test]
fn why_follows_a_row_through_its_walk() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    says(&world, "new", &["gatewayzen move acme instance"]);
    world.ok(&["move", "acme", "instance"]);
    says(
        &world,
        "no_worker",
        &[
            "no instance-worker listens on the queue initializeEc2Instance",
            "0 of 8",
        ],
    );

    let lease = world.take(1, State::Instance);
    says(
        &world,
        "in_hand",
        &["launching its EC2 instance", "attempt 1 of 8", "a-worker@host:7"],
    );
    world.finish(
        &lease,
        Outcome::Wait {
            after: Duration::from_secs(60),
            waiting_for: "EC2 to give i-0abc an address".into(),
        },
    );
    says(
        &world,
        "waiting",
        &["waiting for EC2 to give i-0abc an address", "next look"],
    );

    world.ok(&["move", "acme", "terminate"]);
    let lease = world.take(1, State::Terminate);
    world.finish(
        &lease,
        Outcome::BackOff {
            after: Duration::from_secs(60),
            error: "EC2 answered 503".into(),
            unblock: "Wait.".into(),
        },
    );
    says(
        &world,
        "backing_off",
        &["attempt 1 of 8", "EC2 answered 503", "gatewayzen retry acme"],
    );
    world.ok(&["retry", "acme"]);
    world.advance(1, State::Terminate);
    says(
        &world,
        "terminated",
        &["builds it anew, with the same wallet", "done with terminate"],
    );
}

#[test]
fn two_causes_in_one_state_give_two_answers() {
    let world = in_instance();
    let mut answers = Vec::new();
    for (fault, unblock) in [
        (
            "EC2 has no capacity for t3.small (InsufficientInstanceCapacity)",
            "Choose another type.",
        ),
        (
            "the AMI ami-0123456789abcdef0 does not exist (InvalidAMIID.NotFound)",
            "Set ec2.ami.",
        ),
    ] {
        let lease = world.take(1, State::Instance);
        world.finish(
            &lease,
            Outcome::Park {
                fault: fault.into(),
                unblock: unblock.into(),
            },
        );
        says(
            &world,
            "fault",
            &[
                fault,
                unblock,
                "by a-worker@host:7",
                "1 of 8",
                "gatewayzen retry acme",
            ],
        );
        answers.push(world.why("acme").1);
        world.ok(&["retry", "acme"]);
    }
    assert_ne!(answers[0], answers[1]);
}

#[test]
fn a_fault_names_its_entry_among_the_failed_jobs() {
    let world = in_instance();
    let lease = world.take(1, State::Instance);
    world.finish(
        &lease,
        Outcome::Park {
            fault: "no capacity".into(),
            unblock: "Wait.".into(),
        },
    );
    says(&world, "fault", &["has no entry of this fault"]);
    let entry = |id: i64, generation: i64| {
        let job = JobArgs {
            id,
            generation: Some(generation),
            traceparent: None,
        };
        let payload = String::from_utf8(job.payload(Step::InitializeEc2Instance)).unwrap();
        let entry = format!(
            r#"{{"payload":{payload},"queue":"initializeEc2Instance","worker":"w","error":"no capacity"}}"#
        );
        let key = format!("{}:failed", world.namespace());
        world.redis_command(redis::cmd("RPUSH").arg(key).arg(entry));
    };
    let generation = lease.generation + 1;
    // Of another row, of an earlier fault, and the one that counts.
    entry(2, generation);
    entry(1, generation - 1);
    entry(1, generation);
    says(&world, "fault", &["queue entry 2 of the failed jobs again"]);
}

#[test]
fn a_due_row_is_explained_by_its_queue() {
    let world = in_instance();
    let queue = Step::InitializeEc2Instance.queue();
    world.register_worker(queue);
    says(&world, "on_its_way", &["1 worker process, 1 slot, 0 busy"]);
    for id in ["7", "8", "1"] {
        world.ok(&["enqueue", queue, id]);
    }
    says(&world, "queued", &["2 jobs ahead of it", "3 jobs wait"]);
    let pause = format!("{}:pause-all-workers", world.namespace());
    world.redis_command(redis::cmd("SET").arg(&pause).arg("true"));
    says(&world, "paused", &["all workers are paused", "pause-all-workers"]);
}

#[test]
fn a_job_that_a_worker_shows_as_its_own_is_taken() {
    let world = in_instance();
    let queue = Step::InitializeEc2Instance.queue();
    world.register_worker(queue);
    let working = format!(
        r#"{{"queue":"{queue}","run_at":"2026-11-24T05:57:01Z","payload":{{"class":"{queue}","args":[1]}}}}"#
    );
    world.redis_command(
        redis::cmd("SET")
            .arg(format!("{}:worker:host:12:{queue}", world.namespace()))
            .arg(working),
    );
    says(
        &world,
        "taken",
        &["a worker has taken its job", "host:12:initializeEc2Instance"],
    );
}

#[test]
fn why_answers_without_redis_and_says_so() {
    let world = in_instance();
    let mut why = world.command(&["why", "acme"]);
    let done = why
        .env("GATEWAYZEN_REDIS__URL", "redis://127.0.0.1:1")
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{text}");
    assert!(
        text.contains("Redis at 127.0.0.1:1 cannot be used") && text.contains("no job is lost"),
        "{text}"
    );
}

#[test]
fn a_superseded_step_and_a_hold_are_told_from_a_step_in_hand() {
    let world = in_instance();
    let lease = world.take(1, State::Instance);
    world.ok(&["hold", "acme", "--reason", "the subnet moves"]);
    says(
        &world,
        "on_hold",
        &["the step in hand ends first", "the subnet moves", "by postgres"],
    );
    world.ok(&["resume", "acme"]);
    says(&world, "in_hand", &["attempt 1 of 8"]);
    world.ok(&["move", "acme", "terminate"]);
    says(
        &world,
        "superseded",
        &[
            "which a-worker@host:7 has in hand",
            "terminateEc2Instance begins when that step ends",
        ],
    );
    world.finish(&lease, Outcome::Release);
    says(
        &world,
        "no_worker",
        &["no instance-worker listens on the queue terminateEc2Instance"],
    );
}

//! `watch`: every move is told, and how it ends is an exit code.
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

use gatewayzen_core::State;
use gatewayzen_core::repository::Outcome;
use serde_json::Value;
use world::{Running, World};

fn walking(names: &[&str]) -> World {
    let world = World::new();
    for name in names {
        world.ok(&["create", name]);
        world.ok(&["move", name, "instance"]);
    }
    world
}

#[test]
fn a_walk_that_is_faster_than_a_look_is_told_whole() {
    let world = walking(&["acme"]);
    let mut watch = Running::start(world.command(&["watch", "acme", "--timeout", "60s"]));
    assert!(watch.line().contains("acme  instance for"));
    for state in [State::Instance, State::Key, State::Start, State::Wallet] {
        world.advance(1, state);
    }
    let (lines, code) = watch.end();
    assert_eq!(code, Some(0), "{lines:#?}");
    for (line, expected) in lines.iter().zip([
        "instance → key after",
        "key → start after",
        "start → wallet after",
        "wallet → live after",
    ]) {
        assert!(line.contains(expected), "no {expected:?} in {line}");
    }
    assert!(
        lines[3].contains("done with wallet (by a-worker@host:7)"),
        "{lines:#?}"
    );
    assert!(
        lines[4].starts_with("1 gatewayd: 1 live; watched for"),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 5, "{lines:#?}");
}

#[test]
fn a_fault_ends_the_watch_with_3_once_the_others_are_idle() {
    let world = walking(&["acme", "beta"]);
    let mut watch = Running::start(world.command(&["watch", "--timeout", "60s"]));
    assert!(watch.line().contains("acme"));
    assert!(watch.line().contains("beta"));
    let lease = world.take(1, State::Instance);
    world.finish(
        &lease,
        Outcome::Park {
            fault: "no capacity".into(),
            unblock: "Wait.".into(),
        },
    );
    assert!(watch.line().contains("acme  fault in instance: no capacity"));
    world.ok(&["move", "beta", "terminate"]);
    world.advance(2, State::Terminate);
    let (lines, code) = watch.end();
    assert_eq!(code, Some(3), "{lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("terminate → terminated")),
        "{lines:#?}"
    );
    assert!(lines.last().unwrap().contains("1 with a fault"), "{lines:#?}");
}

#[test]
fn a_hold_ends_the_watch_with_3_since_nothing_goes_on_by_itself() {
    let world = walking(&["acme"]);
    let mut watch = Running::start(world.command(&["watch", "acme", "--timeout", "60s"]));
    watch.line();
    world.ok(&["hold", "acme", "--reason", "the subnet moves"]);
    let (lines, code) = watch.end();
    assert_eq!(code, Some(3), "{lines:#?}");
    assert!(
        lines[0].contains("held in instance: the subnet moves"),
        "{lines:#?}"
    );
}

#[test]
fn a_timeout_ends_with_4_and_says_who_still_walks() {
    let world = walking(&["acme"]);
    let done = world.run(&["watch", "acme", "--timeout", "10ms"]);
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(4), "{error}");
    assert!(
        error.contains("still walking: acme; see `gatewayzen why acme`"),
        "{error}"
    );
}

#[test]
fn idle_rows_end_a_watch_at_once() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    assert!(world.ok(&["watch"]).starts_with("1 gatewayd: 1 new"));
}

#[test]
fn json_is_one_object_a_line() {
    let world = walking(&["acme"]);
    let mut watch = Running::start(world.command(&["watch", "--json", "--timeout", "60s"]));
    let seen: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!(
        (&seen["event"], &seen["name"], &seen["state"]),
        (&"seen".into(), &"acme".into(), &"instance".into())
    );
    world.ok(&["move", "acme", "terminate"]);
    world.advance(1, State::Terminate);
    let (lines, code) = watch.end();
    let events: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((events.len(), code), (2, Some(0)), "{lines:#?}");
    assert_eq!(
        (&events[1]["to_state"], &events[1]["id"]),
        (&"terminated".into(), &1.into())
    );
    assert!(
        events[1]["seconds_in_from_state"].as_f64().unwrap() > 0.0,
        "{lines:#?}"
    );
}

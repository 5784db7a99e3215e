//! What is done to a fleet by hand, over HTTP.

use serde_json::{Value, json};

use super::client::{endpoint, fleet, seen};
use crate::simulated_fleet::{Event, SimulatedFleet};

async fn post(fleet: &SimulatedFleet, path: &str, body: &str) -> (u16, Value) {
    let (status, body) = endpoint(fleet, "POST", path, "", body.to_owned()).await.unwrap();
    (status.as_u16(), serde_json::from_str(&body).unwrap())
}

/// Sees that a call is refused with this status and these words.
async fn refuses(fleet: &SimulatedFleet, path: &str, body: &str, status: u16, words: &str) {
    let (seen, said) = post(fleet, path, body).await;
    let why = said["error"].as_str().unwrap();
    assert_eq!(
        (seen, why.contains(words)),
        (status, true),
        "{path} {body}: {said}"
    );
}

#[tokio::test]
async fn machines_are_launched_rebooted_and_killed_by_hand() {
    let fleet = fleet(|_| {}).await;
    let tags = r#"{"tags":{"gatewayzen:gatewayd":"7","Name":"stray"}}"#;
    let (status, launched) = post(&fleet, "/_sim/launch", tags).await;
    assert_eq!(status, 201, "{launched}");
    let id = launched["instance"].as_str().unwrap();
    let up = seen(&fleet, |entry| matches!(entry.event, Event::HostUp { .. })).await;
    assert_eq!((up.instance.as_str(), up.gatewayd.as_str()), (id, "7"));
    let entries = fleet.ledger().entries();
    let Event::Launched { tags, .. } = &entries[0].event else {
        panic!("{entries:?}")
    };
    assert_eq!(tags["Name"], "stray");

    let one = launched.to_string();
    assert_eq!(post(&fleet, "/_sim/reboot", &one).await, (200, launched.clone()));
    assert_eq!(fleet.ledger().count(|entry| entry.event == Event::Rebooted), 1);
    assert_eq!(post(&fleet, "/_sim/kill", &one).await, (200, launched.clone()));
    assert_eq!(fleet.hosts()[0].state, "terminated");
    let happened = fleet.faults_happened();
    assert_eq!((happened["reboot"], happened["kill"]), (1, 1));

    // What cannot be, and what is no such call, is told and changes nothing.
    refuses(&fleet, "/_sim/reboot", &one, 409, "its SSH is not up").await;
    refuses(&fleet, "/_sim/kill", &one, 409, "its end has come").await;
    let none = json!({ "instance": "i-none" }).to_string();
    for path in ["/_sim/reboot", "/_sim/kill"] {
        refuses(&fleet, path, &none, 404, "no instance \"i-none\"").await;
    }
    for body in ["", "{}", "no JSON", r#"{"id":"i-none"}"#, r#"{"instance":7}"#] {
        refuses(&fleet, "/_sim/launch", body, 400, r#"such as {"tags": "#).await;
        refuses(&fleet, "/_sim/reboot", body, 400, r#"such as {"instance": "#).await;
        refuses(&fleet, "/_sim/kill", body, 400, r#"such as {"instance": "#).await;
    }
    refuses(&fleet, "/_sim/restart", &one, 404, "/_sim/launch").await;
    assert_eq!((fleet.hosts().len(), fleet.faults_happened()), (1, happened));
}

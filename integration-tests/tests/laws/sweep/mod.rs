//! The sweep ends machines that are nobody's, and no other; and rows whose machine is gone say so.

mod doors;
mod gone;
mod orphans;
mod restored;

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::State;
use gatewayzen_core::sweep::{Fate, Report};
use integration_tests::harness::{Bed, eventually};
use integration_tests::simulated_fleet::{Config, Event, Fault, FaultKind};
use sqlx::types::Json;

use crate::witness::legal_histories;
use crate::workers::{Killer, bed, new_row, walk};

const LIVE: (State, State) = (State::Instance, State::Live);
const TERMINATED: (State, State) = (State::Terminate, State::Terminated);

/// Marks and misses count for half an hour in these stories, and are made older by hand.
const SLOW: &str = "sweep.grace = \"30m\"\nec2.consistency_window = \"30m\"\n";

/// A machine with the tags of a launch of this fleet that GatewayZen did not launch.
async fn stray(bed: &Bed, row: i64, attempt: &str) -> String {
    let fleet = bed.database.text("SELECT id::text FROM fleet").await;
    let tags = [
        ("gatewayzen:fleet", fleet.as_str()),
        ("gatewayzen:gatewayd", &row.to_string()),
        ("gatewayzen:attempt", attempt),
    ];
    bed.fleet.launch(&tags).unwrap()
}

/// The newest launch attempt of a row.
async fn attempt_of(bed: &Bed, row: i64) -> String {
    sqlx::query_scalar(
        "SELECT id::text FROM launch_attempts WHERE gatewayd_id = $1 ORDER BY created_at DESC LIMIT 1",
    )
    .bind(row)
    .fetch_one(&bed.database.admin)
    .await
    .unwrap()
}

/// Runs `gatewayzen sweep`, whatever its exit code; what the database keeps of it.
pub(crate) async fn sweep(bed: &Bed, arguments: &[&str]) -> Report {
    let before: i64 = newest(bed).await.map_or(0, |(id, _)| id);
    let told = bed.gatewayzen(&[&["sweep"], arguments].concat()).await;
    let (id, report) = newest(bed).await.unwrap_or_else(|| panic!("no sweep: {told:?}"));
    assert!(id > before, "no sweep of its own: {told:?}");
    report.unwrap_or_else(|| panic!("sweep {id} left no report: {told:?}\n{}", bed.logs()))
}

async fn newest(bed: &Bed) -> Option<(i64, Option<Report>)> {
    let newest: Option<(i64, Option<Json<Report>>)> =
        sqlx::query_as("SELECT id, report FROM sweeps ORDER BY id DESC LIMIT 1")
            .fetch_optional(&bed.database.admin)
            .await
            .unwrap();
    newest.map(|(id, report)| (id, report.map(|report| report.0)))
}

/// Every mark becomes older than any grace.
async fn time_passes(bed: &Bed) {
    for sql in [
        "UPDATE orphans SET first_seen_at = first_seen_at - interval '1 hour'",
        "UPDATE missed_machines SET first_missed_at = first_missed_at - interval '1 hour'",
    ] {
        sqlx::query(sql).execute(&bed.database.admin).await.unwrap();
    }
}

fn fates(report: &Report) -> BTreeMap<&str, Fate> {
    let orphans = report.orphans.iter();
    orphans
        .map(|orphan| (orphan.machine.instance_id.as_str(), orphan.fate))
        .collect()
}

/// The machines whose end anybody has asked EC2 for.
fn ended(bed: &Bed) -> BTreeSet<String> {
    let entries = bed.fleet.ledger().entries().into_iter();
    entries
        .filter(|entry| entry.event == Event::TerminateAsked)
        .map(|entry| entry.instance)
        .collect()
}

/// Machines that live.
fn living(bed: &Bed) -> BTreeSet<String> {
    let hosts = bed.fleet.hosts().into_iter();
    hosts
        .filter(|host| matches!(host.state, "pending" | "running"))
        .map(|host| host.instance)
        .collect()
}

/// Sweeps on a period, killed at every moment around each of their effects, while rows are launched on an EC2 that shows
/// machines and tags late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_kills_only_orphans() {
    let late = [
        Fault::new(FaultKind::IdLag { ms: 1500 }).times(4),
        Fault::new(FaultKind::TagLag { ms: 1500 }).times(4),
    ];
    let settings = "sweep.every = \"500ms\"\nsweep.grace = \"1s\"\nsweep.most_share = 1.0\nec2.consistency_window = \"3s\"\n";
    let bed = bed(Config::default(), settings).await;
    let effects = [
        "compare_machines",
        "end_orphan",
        "TerminateInstances",
        "miss_machines",
        "finish_sweep",
    ];
    let stops = effects
        .iter()
        .map(|effect| format!("sweep:{effect}"))
        .chain(["sweep:claim_sweep", "sweep:renew_sweep", "dispatcher:ask_sweep"].map(str::to_owned))
        .flat_map(|effect| ["before", "after"].map(|moment| (format!("{effect}:{moment}"), 1)))
        .collect();
    let (mut live, mut done) = (Vec::new(), Vec::new());
    for n in 0..4 {
        live.push(new_row(&bed, &format!("live-{n}")).await);
    }
    for n in 0..2 {
        done.push(new_row(&bed, &format!("done-{n}")).await);
    }
    let held = new_row(&bed, "held").await;
    let stopped = new_row(&bed, "stopped").await;
    let lost = new_row(&bed, "lost").await;
    let mut killer = Killer::start(&bed, stops);
    let (mut orphans, mut innocent) = (BTreeSet::new(), BTreeSet::new());
    let story = async {
        for id in live.iter().chain(&done).chain([&held, &stopped]) {
            walk(&bed, *id, LIVE).await;
        }
        walk(&bed, stopped, (State::Stop, State::Stopped)).await;
        for id in &done {
            walk(&bed, *id, TERMINATED).await;
        }
        bed.gatewayzen(&["hold", "held", "--reason", "looking at it"])
            .await
            .unwrap();
        let before = ended(&bed);
        // Machines of a row on hold, of another fleet, and of nobody we know: not ours to end.
        innocent.insert(stray(&bed, held, &attempt_of(&bed, held).await).await);
        let other_fleet = "11111111-2222-4333-8444-555555555555";
        let foreign = [
            ("gatewayzen:fleet", other_fleet),
            ("gatewayzen:gatewayd", "1"),
            ("gatewayzen:attempt", other_fleet),
        ];
        innocent.insert(bed.fleet.launch(&foreign).unwrap());
        innocent.insert(bed.fleet.launch(&[("Name", "somebody else's")]).unwrap());
        // A terminated row's machine, another one for a row that has its own, and one whose row never was.
        orphans.insert(stray(&bed, done[0], &attempt_of(&bed, done[0]).await).await);
        orphans.insert(stray(&bed, live[0], &attempt_of(&bed, live[0]).await).await);
        orphans.insert(stray(&bed, 4711, &attempt_of(&bed, done[1]).await).await);
        // A launch of which EC2's answer is lost, again and again: its machine is known by its tags alone.
        let no_answer = FaultKind::Ec2LosesReply {
            action: Some("RunInstances".into()),
        };
        bed.fleet.fault(Fault::new(no_answer).on(lost));
        bed.write_state(lost, State::Instance).await.unwrap();
        for fault in late {
            bed.fleet.fault(fault);
        }
        for n in 0..4 {
            let id = new_row(&bed, &format!("late-{n}")).await;
            bed.write_state(id, State::Instance).await.unwrap();
            live.push(id);
        }
        eventually("every orphan to end", async || {
            (ended(&bed).difference(&before).count() >= orphans.len()).then_some(())
        })
        .await;
        assert_eq!(bed.row(lost).await.instance_id, None, "the answer is still lost");
        bed.fleet.clear_faults();
        live.push(lost);
        for id in &live {
            bed.reached(*id, State::Live).await;
        }
        assert_eq!(&ended(&bed) - &before, orphans, "what the sweeps ended");
    };
    killer.until(story).await;
    // Until every crash was had, and three whole sweeps more.
    let sweeps = async || -> i64 {
        let whole = "SELECT count(*) FROM sweeps WHERE report IS NOT NULL";
        sqlx::query_scalar(whole)
            .fetch_one(&bed.database.admin)
            .await
            .unwrap()
    };
    let enough = sweeps().await + 3;
    // EC2 throttles more than half of the looks from here on: so a sweep takes long, and its lease has to be renewed.
    let throttled = FaultKind::Ec2Error {
        code: "RequestLimitExceeded".into(),
        action: Some("DescribeInstances".into()),
    };
    bed.fleet.fault(Fault {
        probability: 0.6,
        ..Fault::new(throttled)
    });
    let more = async {
        // An orphan more for whichever crash is still to come.
        orphans.insert(stray(&bed, done[1], &attempt_of(&bed, done[1]).await).await);
        eventually("more sweeps", async || {
            (sweeps().await >= enough && orphans.is_subset(&ended(&bed))).then_some(())
        })
        .await;
    };
    killer.until(more).await;
    killer.until_nothing_is_missed().await;
    println!("{} SIGKILLs, {} whole sweeps", killer.kills, sweeps().await);
    assert_eq!(killer.missed(), Vec::<&String>::new(), "nobody died there");
    let ended = ended(&bed);
    for id in &live {
        let row = bed.row(*id).await;
        assert!(row.fault.is_none() && row.state == State::Live, "{row:?}");
        let machine = row.instance_id.unwrap();
        assert!(
            living(&bed).contains(&machine) && !ended.contains(&machine),
            "{machine}"
        );
    }
    for id in [held, stopped] {
        let own = bed.row(id).await.instance_id.unwrap();
        assert!(living(&bed).contains(&own), "row {id}: {own}");
    }
    assert!(innocent.is_subset(&living(&bed)), "{innocent:?}");
    assert!(orphans.is_disjoint(&living(&bed)));
    // The audit: each orphan, marked by one sweep and ended by a later one.
    let audit: Vec<(String, bool)> = sqlx::query_as(
        "SELECT instance_id, ended_by > marked_by AND ended_at >= first_seen_at + interval '1 s' FROM orphans",
    )
    .fetch_all(&bed.database.admin)
    .await
    .unwrap();
    let audited: BTreeMap<String, bool> = audit.into_iter().collect();
    assert_eq!(audited, orphans.into_iter().map(|id| (id, true)).collect());
    legal_histories(&bed).await;
}

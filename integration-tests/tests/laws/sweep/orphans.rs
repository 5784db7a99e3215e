//! How a machine that no row claims comes to its end: marked first, then ended, not too many at once.

use gatewayzen_core::sweep::{Fate, Report};
use integration_tests::harness::{Bed, ServiceProcess, eventually};
use integration_tests::simulated_fleet::Config;

use super::{LIVE, SLOW, TERMINATED, attempt_of, ended, fates, living, stray, sweep, time_passes};
use crate::workers::{bed, new_row, start_with_stops, walk};

/// A fleet of one live and one terminated row, whose services run, and their ids.
async fn small_fleet(settings: &str) -> (Bed, Vec<ServiceProcess>, [i64; 2]) {
    let bed = bed(Config::default(), &format!("{SLOW}{settings}")).await;
    let services = bed.start_all();
    let rows = [new_row(&bed, "acme").await, new_row(&bed, "done").await];
    for id in rows {
        walk(&bed, id, LIVE).await;
    }
    walk(&bed, rows[1], TERMINATED).await;
    (bed, services, rows)
}

async fn strays(bed: &Bed, row: i64, number: usize) -> Vec<String> {
    let attempt = attempt_of(bed, row).await;
    let mut all = Vec::new();
    for _ in 0..number {
        all.push(stray(bed, row, &attempt).await);
    }
    all
}

async fn marks(bed: &Bed) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM orphans")
        .fetch_one(&bed.database.admin)
        .await
        .unwrap()
}

fn only(report: &Report) -> Fate {
    assert_eq!(report.orphans.len(), 1, "{report:?}");
    report.orphans[0].fate
}

#[tokio::test]
async fn an_orphan_is_marked_by_one_sweep_and_ended_by_a_later_one() {
    let (bed, _services, [acme, done]) = small_fleet("").await;
    let before = ended(&bed);
    let orphan = strays(&bed, done, 1).await.remove(0);

    // A dry run says what it would do, and leaves nothing but its report.
    let text = bed.gatewayzen(&["sweep"]).await.unwrap();
    println!("{text}");
    for words in [
        &orphan,
        "would be marked",
        "gatewayd \"done\" is terminated",
        "--act",
    ] {
        assert!(text.contains(words), "`{words}` is not in: {text}");
    }
    assert_eq!(marks(&bed).await, 0);

    let report = sweep(&bed, &["--act"]).await;
    assert_eq!((only(&report), report.claimed), (Fate::Marked, 1));
    // However often it is swept: not before the grace is over.
    for _ in 0..2 {
        assert_eq!(only(&sweep(&bed, &["--act"]).await), Fate::Waits);
    }
    assert_eq!(ended(&bed), before);

    time_passes(&bed).await;
    let report = sweep(&bed, &[]).await;
    assert_eq!(only(&report), Fate::Ended, "what a dry run says of it");
    assert_eq!(ended(&bed), before, "and does");
    let text = bed
        .gatewayzen(&["sweep", "--act", "--why", "looked at it"])
        .await
        .unwrap();
    assert!(text.contains(&orphan) && text.contains("ended"), "{text}");
    assert_eq!(
        (&ended(&bed) - &before).into_iter().collect::<Vec<_>>(),
        std::slice::from_ref(&orphan)
    );
    eventually("its end", async || {
        (!living(&bed).contains(&orphan)).then_some(())
    })
    .await;
    assert!(living(&bed).contains(&bed.row(acme).await.instance_id.unwrap()));
    let (by, why): (String, String) = sqlx::query_as(
        "SELECT s.asked_by, s.why FROM orphans o JOIN sweeps s ON s.id = o.ended_by WHERE o.ended_at IS NOT NULL",
    )
    .fetch_one(&bed.database.admin)
    .await
    .unwrap();
    assert_eq!(
        (by.as_str(), why.as_str()),
        ("gatewayzen_operator", "looked at it")
    );
}

#[tokio::test]
async fn more_orphans_than_the_cap_are_none_ended_until_somebody_has_looked() {
    let (bed, _services, [_, done]) = small_fleet("").await;
    let before = ended(&bed);
    let orphans = strays(&bed, done, 3).await;
    sweep(&bed, &["--act"]).await;
    time_passes(&bed).await;
    // One row has a machine, so a tenth of the fleet is the least: one.
    let (code, _) = bed.gatewayzen(&["sweep", "--act"]).await.unwrap_err();
    assert_eq!(code, 1);
    let report = sweep(&bed, &["--act"]).await;
    assert_eq!((report.most, report.due), (1, 3));
    assert!(
        fates(&report).values().all(|fate| *fate == Fate::OverTheCap),
        "{report:?}"
    );
    let refusal = report.refusal.unwrap();
    assert!(
        refusal.contains("3 machines are due") && refusal.contains("--most 3"),
        "{refusal}"
    );
    assert_eq!(ended(&bed), before);

    let report = sweep(&bed, &["--act", "--most", "3"]).await;
    assert_eq!(report.count(Fate::Ended), 3, "{report:?}");
    assert_eq!(&ended(&bed) - &before, orphans.into_iter().collect());
}

#[tokio::test]
async fn a_hold_keeps_a_machine_and_a_claim_takes_the_mark_away() {
    let (bed, _services, [acme, done]) = small_fleet("").await;
    let before = ended(&bed);
    let orphan = strays(&bed, done, 1).await.remove(0);
    sweep(&bed, &["--act"]).await;
    time_passes(&bed).await;
    bed.gatewayzen(&["hold", "done", "--reason", "that machine has logs"])
        .await
        .unwrap();
    let report = sweep(&bed, &["--act"]).await;
    assert_eq!(
        (report.orphans.len(), report.let_alone.len()),
        (0, 1),
        "{report:?}"
    );
    assert!(report.let_alone[0].why.contains("on hold"));
    assert_eq!(ended(&bed), before);

    // A mark on what a row claims, however it came there, is taken away and not acted on.
    let machine = bed.row(acme).await.instance_id.unwrap();
    sqlx::query(
        "INSERT INTO orphans (instance_id, why, first_seen_at, marked_by) VALUES ($1, 'x', '2026-01-01', 1)",
    )
    .bind(&machine)
    .execute(&bed.database.admin)
    .await
    .unwrap();
    sweep(&bed, &["--act"]).await;
    assert_eq!(marks(&bed).await, 1, "the mark of the one on hold");

    bed.gatewayzen(&["resume", "done"]).await.unwrap();
    assert_eq!(only(&sweep(&bed, &["--act"]).await), Fate::Ended);
    assert_eq!((&ended(&bed) - &before).into_iter().collect::<Vec<_>>(), [orphan]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweeper_that_was_frozen_ends_nothing_when_it_wakes_up() {
    let (bed, services, [_, done]) = small_fleet("").await;
    let before = ended(&bed);
    strays(&bed, done, 1).await;
    sweep(&bed, &["--act"]).await;
    time_passes(&bed).await;
    drop(services);
    let sleeper = start_with_stops(&bed, "instance-worker", [&"sweep:end_orphan:before".to_owned()]);
    let asked = async { sweep(&bed, &["--act"]).await };
    let meanwhile = async {
        eventually("the sleeper to stop", async || sleeper.is_stopped().then_some(())).await;
        bed.gatewayzen(&["hold", "done", "--reason", "wait"])
            .await
            .unwrap();
        bed.start("instance-worker")
    };
    let (report, _other) = tokio::join!(asked, meanwhile);
    assert_eq!(report.let_alone.len(), 1, "as the other one saw it: {report:?}");
    bed.gatewayzen(&["resume", "done"]).await.unwrap();
    sleeper.signal("CONT").await;
    eventually("the sleeper to give up", async || {
        // Whichever it comes to first: the renewal, the next statement, or the end.
        let gave_up = ["sweep given up", "sweep failed", "could not be written"];
        let log = sleeper.log();
        gave_up.iter().any(|words| log.contains(words)).then_some(())
    })
    .await;
    assert_eq!(ended(&bed), before);
}

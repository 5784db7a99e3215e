//! Rows whose machine is gone: parked, with what EC2 says of it.

use gatewayzen_core::State;
use gatewayzen_core::sweep::Fate;
use integration_tests::simulated_fleet::{Config, Times};

use super::{LIVE, SLOW, TERMINATED, sweep, time_passes};
use crate::witness::nothing_is_broken;
use crate::workers::{bed, new_row, walk};

#[tokio::test]
async fn a_machine_that_died_parks_its_row_and_the_row_is_built_anew_with_its_wallet() {
    let bed = bed(Config::default(), SLOW).await;
    let _services = bed.start_all();
    let (acme, held, well) = (
        new_row(&bed, "acme").await,
        new_row(&bed, "held").await,
        new_row(&bed, "well").await,
    );
    for id in [acme, held, well] {
        walk(&bed, id, LIVE).await;
    }
    let before = bed.row(acme).await;
    let machine = before.instance_id.clone().unwrap();
    bed.gatewayzen(&["hold", "held", "--reason", "mine"])
        .await
        .unwrap();
    for id in [acme, held] {
        bed.fleet.kill(&bed.row(id).await.instance_id.unwrap());
    }

    let report = sweep(&bed, &[]).await;
    assert_eq!(report.gone.len(), 1, "the one on hold is let alone: {report:?}");
    assert_eq!(
        (report.gone[0].name.as_str(), report.gone[0].fate),
        ("acme", Fate::Parked)
    );
    assert!(bed.row(acme).await.fault.is_none(), "a dry run changes nothing");

    let text = bed.gatewayzen(&["sweep", "--act"]).await.unwrap();
    println!("{text}");
    assert!(text.contains("acme") && text.contains("parked"), "{text}");
    let row = bed.row(acme).await;
    let fault = row.fault.unwrap();
    assert!(
        fault.contains(&machine) && fault.contains("terminated (Server.SpotInstanceTermination"),
        "{fault}"
    );
    assert_eq!((row.state, row.generation), (State::Live, before.generation + 1));
    assert!(bed.row(held).await.fault.is_none() && bed.row(well).await.fault.is_none());
    let why = bed.why_json("acme").await;
    assert_eq!(why["situation"], "fault");
    assert!(why["unblock"].as_str().unwrap().contains("`terminate`"), "{why}");
    let history = bed.repository.history(acme).await.unwrap();
    let last = history.last().unwrap();
    assert_eq!(
        (last.event.as_str(), last.by.starts_with("instance-worker@")),
        ("faulted", true)
    );

    // A retry of an idle row only clears the fault; the next sweep sees the same.
    let told = bed.gatewayzen(&["retry", "acme"]).await.unwrap();
    assert!(told.contains("cleared"), "{told}");
    assert!(bed.row(acme).await.fault.is_none());
    assert_eq!(sweep(&bed, &["--act"]).await.count(Fate::Parked), 1);
    assert!(bed.row(acme).await.fault.is_some());
    assert_eq!(
        sweep(&bed, &["--act"]).await.gone.len(),
        0,
        "parked once is enough"
    );

    walk(&bed, acme, TERMINATED).await;
    walk(&bed, acme, LIVE).await;
    let after = bed.row(acme).await;
    assert_eq!(after.ripple_address, before.ripple_address);
    assert_ne!(after.instance_id, before.instance_id);
    bed.gatewayzen(&["resume", "held"]).await.unwrap();
    walk(&bed, held, TERMINATED).await;
    nothing_is_broken(&bed).await;
}

#[tokio::test]
async fn a_machine_that_ec2_does_not_show_counts_as_gone_only_in_time_and_not_for_many_at_once() {
    let times = Times {
        terminated_visible_ms: 0,
        ..Times::default()
    };
    let config = Config {
        times,
        ..Config::default()
    };
    let bed = bed(config, SLOW).await;
    let _services = bed.start_all();
    let mut rows = Vec::new();
    for name in ["acme", "bolt", "cask"] {
        let id = new_row(&bed, name).await;
        walk(&bed, id, LIVE).await;
        rows.push(id);
    }
    bed.fleet.kill(&bed.row(rows[0]).await.instance_id.unwrap());
    let acme = async || bed.row(rows[0]).await.fault;
    for _ in 0..2 {
        let report = sweep(&bed, &["--act"]).await;
        assert_eq!(report.gone[0].fate, Fate::Marked, "{report:?}");
    }
    assert_eq!(acme().await, None);
    time_passes(&bed).await;
    assert_eq!(sweep(&bed, &["--act"]).await.count(Fate::Parked), 1);
    let fault = acme().await.unwrap();
    assert!(fault.contains("EC2 has not shown it since"), "{fault}");

    // The wrong region shows no machine at all: that is no reason to park everybody.
    for id in &rows[1..] {
        bed.fleet.kill(&bed.row(*id).await.instance_id.unwrap());
    }
    sweep(&bed, &["--act"]).await;
    time_passes(&bed).await;
    let report = sweep(&bed, &["--act"]).await;
    assert_eq!(report.count(Fate::OverTheCap), 2, "{report:?}");
    assert!(report.refusal.unwrap().contains("ec2.region"));
    assert_eq!(bed.row(rows[1]).await.fault, None);
    let report = sweep(&bed, &["--act", "--most", "2"]).await;
    assert_eq!(report.count(Fate::Parked), 2, "{report:?}");
}

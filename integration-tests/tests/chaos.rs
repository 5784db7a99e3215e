//! A short chaos run. The long ones are `make chaos`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::time::Duration;

use integration_tests::chaos::{Orders, Size, run, walk};

const SIZE: Size = Size {
    dispatchers: 2,
    workers: 2,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_short_chaos_run_breaks_no_law() {
    let seed = fastrand::u64(..);
    println!("seed {seed}: make chaos SEED={seed} GATEWAYDS=20");
    let orders = Orders {
        seed,
        time: Duration::from_secs(20),
        gatewayds: 20,
        size: SIZE,
    };
    let (report, evidence, world) = run(orders).await;
    let rows = report.broken.iter().filter_map(|broken| broken.row);
    let stories: String = rows.map(|id| evidence.about(id)).collect();
    assert!(
        report.broken.is_empty(),
        "{report}\n{stories}\n{}",
        world.bed.logs()
    );
    assert!(
        report.faults > 0 && report.transitions > 20,
        "too little happened: {report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_with_nothing_going_wrong_meets_no_fault() {
    let (report, _, world) = walk(1, 10, SIZE).await;
    assert!(report.broken.is_empty(), "{report}\n{}", world.bed.logs());
    assert_eq!(
        (report.rows.get("live"), report.machines),
        (Some(&10), 10),
        "{report}"
    );
    assert_eq!(report.transitions, 50, "{report}");
}

//! In a database that was put back no sweep acts until somebody declares it.

use gatewayzen_core::sweep::Fate;
use integration_tests::simulated_fleet::Config;

use super::{LIVE, SLOW, ended, living, sweep, time_passes};
use crate::workers::{bed, new_row, walk};

#[tokio::test]
async fn a_restored_database_ends_nothing_until_it_is_declared() {
    let mut bed = bed(Config::default(), SLOW).await;
    let services = bed.start_all();
    let acme = new_row(&bed, "acme").await;
    walk(&bed, acme, LIVE).await;
    drop(services);
    let copy = bed.database.copy().await;

    // What came after the copy was made: a row and its machine.
    let services = bed.start_all();
    let late = new_row(&bed, "late").await;
    walk(&bed, late, LIVE).await;
    let machines = [acme, late].map(|id| bed.row(id));
    let [known, unknown] = futures_util::future::join_all(machines).await.try_into().unwrap();
    let (known, unknown) = (known.instance_id.unwrap(), unknown.instance_id.unwrap());
    drop(services);
    let _original = bed.restore(copy);
    let _worker = bed.start("instance-worker");

    let refused = async |words: &str| {
        for arguments in [&["--act"][..], &["--act", "--most", "9"], &[]] {
            let report = sweep(&bed, arguments).await;
            let refusal = report.refusal.unwrap();
            assert!(
                refusal.contains(words) && refusal.contains("gatewayzen restored"),
                "{refusal}"
            );
            assert_eq!(report.unknown[0].machine.instance_id, unknown);
            assert_eq!(report.claimed, 1);
            time_passes(&bed).await;
        }
    };
    refused("is not where the fleet was at home").await;
    // An older state of the same disk has the same home, and is told by the machine that it does not know.
    let same = "UPDATE fleet SET home = fleet_home()";
    sqlx::query(same).execute(&bed.database.admin).await.unwrap();
    refused("knows nothing of its launch").await;
    assert_eq!(bed.database.text("SELECT count(*)::text FROM orphans").await, "0");
    let (code, told) = bed.gatewayzen(&["restored", "--why", ""]).await.unwrap_err();
    assert!(code == 1 && told.contains("say what happened"), "{told}");
    assert!(ended(&bed).is_empty());

    bed.gatewayzen(&["restored", "--why", "the disk broke"])
        .await
        .unwrap();
    let report = sweep(&bed, &["--act"]).await;
    assert_eq!(report.count(Fate::Marked), 1, "{report:?}");
    assert!(report.orphans[0].why.contains("was declared restored"));
    time_passes(&bed).await;
    sweep(&bed, &["--act"]).await;
    assert_eq!(ended(&bed).into_iter().collect::<Vec<_>>(), [unknown]);
    assert!(living(&bed).contains(&known));
    let declared = "SELECT by || ': ' || why FROM restores";
    assert_eq!(
        bed.database.text(declared).await,
        "gatewayzen_operator: the disk broke"
    );

    // What is launched from now on without being stored here is no leftover of before.
    let fleet = bed.database.text("SELECT id::text FROM fleet").await;
    bed.fleet.launch(&[("gatewayzen:fleet", &fleet)]).unwrap();
    let report = sweep(&bed, &["--act"]).await;
    assert_eq!(
        (report.unknown.len(), report.refusal.is_some()),
        (1, true),
        "{report:?}"
    );
}

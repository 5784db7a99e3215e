//! The same by the command line, on a whole fleet.

use gatewayzen_core::State;
use integration_tests::harness::{Bed, Options, ServiceProcess, run};
use serde_json::Value;

use crate::story::{OVERRIDE, sees};

/// A fleet with one gatewayd that is `live`, and whose wallet is in Postgres only.
async fn live_without_copies() -> (Bed, i64, Vec<ServiceProcess>) {
    let bed = Bed::new(Options {
        settings: "secrets.wallet_copies = \"\"\n".into(),
        ..Options::default()
    })
    .await;
    let services = bed.start_all();
    let id = bed.launch("acme").await;
    bed.reached(id, State::Live).await;
    (bed, id, services)
}

#[tokio::test]
async fn a_whole_walk_ends_with_its_backups_and_the_command_line_says_what_is_missing() {
    let (bed, id, _services) = live_without_copies().await;

    // The rules, and a change of them.
    let rules = bed.gatewayzen(&["policy"]).await.unwrap();
    sees(
        &rules,
        &[
            "its cold wallet must be in a verified backup",
            "its host need not be backed up",
        ],
    );
    let no_reason = bed
        .gatewayzen(&["policy", "--require-host-backup", "yes"])
        .await
        .unwrap_err();
    assert_eq!(no_reason.0, 2, "{no_reason:?}");
    let change = [
        "policy",
        "--require-host-backup",
        "yes",
        "--reason",
        "audit of May",
        "--json",
    ];
    let rules: Value = serde_json::from_str(&bed.gatewayzen(&change).await.unwrap()).unwrap();
    assert_eq!(
        [
            &rules["require_wallet_backup"],
            &rules["require_host_backup"],
            &rules["changed_by"]
        ],
        [
            &Value::Bool(true),
            &Value::Bool(true),
            &Value::from("gatewayzen_operator")
        ]
    );
    let kept = "SELECT login || ': ' || reason || ': ' || details::text FROM audit WHERE action = 'decommission-policy'";
    assert_eq!(
        bed.database.text(kept).await,
        "gatewayzen_operator: audit of May: {\"require_host_backup\": [false, true], \"require_wallet_backup\": [true, true]}"
    );

    // Both refusals, whole, on one line.
    let wallet = bed.database.text("SELECT address FROM wallets").await;
    for command in [&["move", "acme", "terminate"][..], &["terminate", "acme"]] {
        let (code, told) = bed.gatewayzen(command).await.unwrap_err();
        assert_eq!((code, told.lines().count()), (1, 1), "{told}");
        sees(
            &told,
            &[
                &format!(
                    "gatewayzen: gatewayd \"acme\" cannot be terminated: the key of its cold wallet {wallet} is in no verified backup and"
                ),
                "no backup of its host was made since",
                "with its host end its hot wallet and gatewayd's own database",
                "`gatewayzen secrets export FILE --reason TEXT`, then `gatewayzen secrets verify-backup FILE`",
                "write `stop` first: its step makes the backup",
                OVERRIDE,
            ],
        );
    }
    // What it says is done: then it ends.
    bed.gatewayzen(&["move", "acme", "stop"]).await.unwrap();
    bed.reached(id, State::Stopped).await;
    let place = "SELECT place || ' ' || made_by FROM host_backups";
    sees(
        &bed.database.text(place).await,
        &["sim://backups/i-", " ssh-worker@"],
    );
    let history = bed.gatewayzen(&["show", "acme"]).await.unwrap();
    sees(&history, &["its host was backed up to sim://backups/i-"]);
    let (_, told) = bed.gatewayzen(&["terminate", "acme"]).await.unwrap_err();
    assert!(!told.contains("no backup of its host"), "{told}");
    let recorded = sqlx::query_scalar("SELECT record_wallet_backup($1, $2, 'a safe', repeat('0', 64))")
        .bind(id)
        .bind(&wallet);
    let recorded: bool = recorded.fetch_one(&bed.database.admin).await.unwrap();
    assert!(recorded);
    bed.gatewayzen(&["terminate", "acme", "--reason", "the customer left"])
        .await
        .unwrap();
    bed.reached(id, State::Terminated).await;
}

#[tokio::test]
async fn the_command_line_ends_a_gatewayd_without_backup_only_with_a_reason() {
    let (bed, id, _services) = live_without_copies().await;
    let (code, _) = bed
        .gatewayzen(&["terminate", "acme", "--without-backup"])
        .await
        .unwrap_err();
    assert_eq!(code, 2);
    let done = bed
        .gatewayzen(&["terminate", "acme", "--without-backup", "--reason", "it burnt"])
        .await
        .unwrap();
    sees(&done, &["acme: live → terminate, without a look at its backups"]);
    bed.reached(id, State::Terminated).await;
    let again = bed
        .gatewayzen(&["terminate", "acme", "--without-backup", "--reason", "again"])
        .await;
    sees(
        &again.unwrap_err().1,
        &["gatewayd \"acme\" is in state \"terminated\" already"],
    );
}

/// What `gatewayzen policy` says to standard error where this is the backup command, and each word of the doctor on the policy.
async fn told_of_policy(bed: &Bed, backup_command: &str) -> (String, Vec<(String, String)>) {
    let mut environment = bed.environment.clone();
    environment.push((
        "GATEWAYZEN_POSTGRES__URL".into(),
        bed.database.url("gatewayzen_operator"),
    ));
    environment.push((
        "GATEWAYZEN_GATEWAYD__BACKUP_COMMAND".into(),
        backup_command.into(),
    ));
    let config = bed.config.to_str().unwrap();
    let policy = run("gatewayzen", &["--config", config, "policy"], &environment).await;
    assert!(policy.status.success());
    let doctor = ["--config", config, "--json", "doctor"];
    let doctor = run("gatewayzen", &doctor, &environment).await;
    let checks: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let of_policy = checks
        .iter()
        .filter(|check| check["check"] == "ending gatewayds")
        .map(|check| {
            let text = |field: &str| check[field].as_str().unwrap().to_owned();
            (text("status"), text("found"))
        })
        .collect();
    (String::from_utf8(policy.stderr).unwrap(), of_policy)
}

#[tokio::test]
async fn a_backup_command_and_a_policy_that_do_not_fit_are_a_warning_both_ways() {
    let bed = Bed::new(Options::default()).await;
    for (required, command, warning) in [
        (
            "no",
            "true",
            Some([
                "which runs in the step of `stop` alone",
                "wants no backup of the host, although",
            ]),
        ),
        ("no", "", None),
        ("yes", "true", None),
        (
            "yes",
            "",
            Some([
                "has no gatewayd.backup_command",
                "wants a backup of the host, and this configuration has no",
            ]),
        ),
    ] {
        let set = ["policy", "--require-host-backup", required, "--reason", "a test"];
        bed.gatewayzen(&set).await.unwrap();
        let (policy, doctor) = told_of_policy(&bed, command).await;
        assert_eq!(
            (doctor[0].0.as_str(), doctor.len()),
            ("ok", 1 + usize::from(warning.is_some())),
            "{doctor:?}"
        );
        match warning {
            None => assert_eq!(policy, ""),
            Some([by_policy, by_doctor]) => {
                sees(&policy, &[by_policy]);
                assert_eq!(doctor[1].0, "warn");
                sees(&doctor[1].1, &[by_doctor]);
            }
        }
    }
}

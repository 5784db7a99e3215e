//! `gatewayzen doctor` and `--check` say what is wrong with an installation, and what to mend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::os::unix::fs::PermissionsExt as _;

use gatewayzen_core::seal::KeyRing;
use integration_tests::harness::{Bed, Database, Options, eventually, run};
use serde_json::Value;

/// What the doctor finds as an operator, with its exit code.
async fn doctor(bed: &Bed, more: &[(&str, &str)]) -> (Option<i32>, Vec<Value>) {
    let mut environment = bed.environment.clone();
    let operator = bed.database.url("gatewayzen_operator");
    environment.push(("GATEWAYZEN_POSTGRES__URL".into(), operator));
    environment.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let config = bed.config.to_str().unwrap();
    let done = run(
        "gatewayzen",
        &["--config", config, "--json", "doctor"],
        &environment,
    )
    .await;
    let checks: Value = serde_json::from_slice(&done.stdout).unwrap();
    (done.status.code(), checks.as_array().unwrap().clone())
}

fn with_status<'a>(checks: &'a [Value], status: &str) -> Vec<&'a Value> {
    checks.iter().filter(|check| check["status"] == status).collect()
}

/// The one check that failed: what it is, what was found, what mends it.
#[track_caller]
fn only_failure((code, checks): &(Option<i32>, Vec<Value>)) -> [&str; 3] {
    let failed = with_status(checks, "fail");
    assert_eq!((*code, failed.len()), (Some(1), 1), "{checks:#?}");
    ["check", "found", "mend"].map(|field| failed[0][field].as_str().unwrap())
}

/// Exit code and the last line of standard error of a service's `--check`.
async fn check(bed: &Bed, service: &str, more: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut environment = bed.environment.clone();
    environment.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    let config = bed.config.to_str().unwrap();
    let done = run(service, &["--config", config, "--check"], &environment).await;
    let said = String::from_utf8(done.stderr).unwrap();
    let errors: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains(": warning: "))
        .collect();
    assert!(errors.len() <= 1, "not one line: {said}");
    (done.status.code(), errors.concat())
}

const WRONG_KEY: [(&str, &str); 1] = [("AWS_ACCESS_KEY_ID", "AKIAWRONG")];
/// Port 1 refuses.
const NO_EC2: [(&str, &str); 1] = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];

#[tokio::test]
async fn doctor_says_what_to_mend() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    let checks = eventually("the doctor to find nothing", async || {
        let (code, checks) = doctor(&bed, &[]).await;
        (code == Some(0)).then_some(checks)
    })
    .await;
    assert_eq!(with_status(&checks, "fail"), Vec::<&Value>::new());
    let ec2 = checks.iter().find(|check| check["check"] == "EC2").unwrap();
    assert_eq!(ec2["status"], "ok");
    let good = "the configuration is good, and EC2 takes the credentials";
    assert_eq!(ec2["found"], good);

    let wrong_key = doctor(&bed, &WRONG_KEY).await;
    let [what, found, mend] = only_failure(&wrong_key);
    assert_eq!(what, "EC2");
    assert!(
        found.contains("EC2 refused DescribeInstances: AuthFailure"),
        "{found}"
    );
    assert!(found.contains("give the worker credentials"), "{found}");
    assert!(mend.contains("other credentials"), "{mend}");

    let no_ec2 = doctor(&bed, &NO_EC2).await;
    let [what, found, mend] = only_failure(&no_ec2);
    assert_eq!(what, "EC2");
    assert!(found.contains("EC2 did not answer DescribeInstances"), "{found}");
    assert!(mend.contains("reaches EC2's endpoint"), "{mend}");

    // An operator without the workers' secrets is told nothing wrong of EC2.
    let (code, checks) = doctor(&bed, &[("GATEWAYZEN_SECRETS__KEY_FILE", "")]).await;
    assert_eq!(code, Some(0), "{checks:#?}");
    let notes = with_status(&checks, "note");
    let note = notes.iter().find(|note| note["check"] == "EC2").unwrap();
    assert!(
        note["mend"].as_str().unwrap().contains("instance-worker --check"),
        "{note}"
    );
}

#[tokio::test]
async fn doctor_looks_at_the_ring_of_the_wallets() {
    let bed = Bed::new(Options::default()).await;
    let ring = bed.folder().join("wallet-keys-of-their-own");
    let key = KeyRing::generate_line("w1").unwrap();
    std::fs::write(&ring, key.expose_str().unwrap()).unwrap();
    let ring = ring.to_str().unwrap();
    for (file, mode, wanted) in [
        ("", 0o600, &[("note", "secrets.wallet_key_file is empty")][..]),
        (
            "/nowhere/keys",
            0o600,
            &[("fail", "/nowhere/keys cannot be read")],
        ),
        (ring, 0o600, &[("ok", "seeds of wallets are sealed with \"w1\"")]),
        (ring, 0o640, &[("ok", "\"w1\""), ("warn", "run `chmod 600 ")]),
    ] {
        std::fs::set_permissions(ring, std::fs::Permissions::from_mode(mode)).unwrap();
        let (_, checks) = doctor(&bed, &[("GATEWAYZEN_SECRETS__WALLET_KEY_FILE", file)]).await;
        let told: Vec<&Value> = checks
            .iter()
            .filter(|check| check["check"] == "wallet keys")
            .collect();
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for (told, (status, words)) in told.iter().zip(wanted) {
            assert_eq!(told["status"], *status, "{told}");
            assert!(told["found"].as_str().unwrap().contains(words), "{told}");
        }
    }
}

#[tokio::test]
async fn doctor_sees_a_schema_that_is_too_old() {
    let bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    eventually("the doctor to find nothing", async || {
        (doctor(&bed, &[]).await.0 == Some(0)).then_some(())
    })
    .await;
    let last = "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(last).execute(&bed.database.admin).await.unwrap();
    let found = doctor(&bed, &[]).await;
    let [what, found, mend] = only_failure(&found);
    assert_eq!(what, "schema");
    assert!(found.contains("the database has migration "), "{found}");
    assert!(mend.contains("gatewayzen migrate"), "{mend}");
}

#[tokio::test]
async fn every_role_can_tell_whether_the_schema_fits() {
    let database = Database::new().await;
    let roles = ["gatewayzen_app", "gatewayzen_service", "gatewayzen_operator"];
    for role in roles {
        let repository = database.repository(role);
        repository
            .check_schema()
            .await
            .unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    let last = "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    sqlx::query(last).execute(&database.admin).await.unwrap();
    for role in roles {
        let told = database
            .repository(role)
            .check_schema()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("this version needs") && told.contains("gatewayzen migrate"),
            "{role}: {told}"
        );
    }
}

#[tokio::test]
async fn check_tells_bad_credentials_from_an_ec2_that_is_away() {
    let bed = Bed::new(Options::default()).await;
    assert_eq!(
        check(&bed, "instance-worker", &[]).await,
        (Some(0), String::new())
    );
    let (code, error) = check(&bed, "instance-worker", &WRONG_KEY).await;
    assert_eq!(code, Some(64), "{error}");
    assert!(
        error.contains("AuthFailure") && error.contains("credentials"),
        "{error}"
    );
    let none = [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
    let (code, error) = check(&bed, "instance-worker", &none).await;
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("finds no AWS credentials"), "{error}");
    let (code, error) = check(&bed, "instance-worker", &NO_EC2).await;
    assert_eq!(code, Some(69), "{error}");
    assert!(error.contains("EC2 did not answer"), "{error}");
}

#[tokio::test]
async fn a_key_file_that_is_no_key_and_an_empty_command_do_not_pass_the_check() {
    let bed = Bed::new(Options::default()).await;
    assert_eq!(check(&bed, "ssh-worker", &[]).await, (Some(0), String::new()));
    for (setting, value, words) in [
        (
            "GATEWAYZEN_SSH__KEY_FILE",
            "/etc/hostname",
            "/etc/hostname: it is not a private key",
        ),
        (
            "GATEWAYZEN_GATEWAYD__COMMANDS__START",
            " ",
            "gatewayd.commands.start: must not be empty",
        ),
    ] {
        let (code, error) = check(&bed, "ssh-worker", &[(setting, value)]).await;
        assert_eq!(code, Some(64), "{error}");
        assert!(
            error.starts_with("ssh-worker: bad configuration: ") && error.contains(words),
            "{error}"
        );
    }
}

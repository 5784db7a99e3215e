//! `gatewayzen doctor` says what is wrong with an installation, and what to mend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use integration_tests::harness::{Bed, Options, eventually, run};

#[tokio::test]
async fn doctor_finds_nothing_where_nothing_is_wrong_and_names_what_is() {
    let mut bed = Bed::new(Options::default()).await;
    let _services = bed.start_all();
    eventually("the doctor to find nothing", async || {
        bed.gatewayzen(&["doctor"]).await.ok()
    })
    .await;
    let told = bed.gatewayzen(&["doctor"]).await.unwrap();
    assert!(told.contains("EC2 takes the credentials"), "{told}");
    for (name, value) in &mut bed.environment {
        if name == "AWS_ACCESS_KEY_ID" {
            *value = "AKIAWRONG".into();
        }
    }
    let config = bed.config.to_str().unwrap();
    let output = run(
        "instance-worker",
        &["--config", config, "--check"],
        &bed.environment,
    )
    .await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(
        error.contains("AuthFailure") && error.contains("credentials"),
        "{error}"
    );
    let mut environment = bed.environment.clone();
    environment.push((
        "GATEWAYZEN_POSTGRES__URL".into(),
        bed.database.url("gatewayzen_operator"),
    ));
    let output = run("gatewayzen", &["--config", config, "doctor"], &environment).await;
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("AuthFailure"), "{told}");
}

#[tokio::test]
async fn a_key_file_that_is_no_key_does_not_pass_the_check() {
    let bed = Bed::new(Options {
        settings: "ssh.key_file = \"/etc/hostname\"".into(),
        ..Options::default()
    })
    .await;
    let config = bed.config.to_str().unwrap();
    let output = run("ssh-worker", &["--config", config, "--check"], &bed.environment).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{error}");
    assert!(error.contains("ssh.key_file"), "{error}");
}

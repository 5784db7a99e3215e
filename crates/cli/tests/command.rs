//! The command as an operator and a script use it.
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
use world::{World, bare, refused};

#[test]
fn an_operator_does_by_the_command_what_an_application_does_by_sql() {
    let world = World::new();
    let as_operator = |args: &[&str]| {
        let done = world
            .command(args)
            .env("GATEWAYZEN_POSTGRES__URL", world.url_as("gatewayzen_operator"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    as_operator(&["create", "acme", "beta", "--release", "v3.34.2", "--owner", "bob"]);
    let said = as_operator(&["move", "acme", "instance", "--why", "customer 7"]);
    assert!(said.contains("new → instance"), "{said}");
    as_operator(&["hold", "acme", "--reason", "the subnet moves"]);

    let list = world.json(&["list", "--held"]);
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    assert_eq!(
        (&list[0]["name"], &list[0]["state"], &list[0]["hold"]),
        (&"acme".into(), &"instance".into(), &"the subnet moves".into())
    );
    assert_eq!(
        world
            .json(&["list", "--owner", "bob", "--limit", "1"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        world.json(&["list", "--state", "new", "--state", "live"])[0]["name"],
        "beta"
    );
    assert_eq!(world.json(&["list", "--faulty"]), serde_json::json!([]));
    let table = world.ok(&["list"]);
    assert!(
        table.contains("acme  instance") && table.contains("on hold: the subnet moves"),
        "{table}"
    );

    as_operator(&["resume", "acme"]);
    let shown = world.json(&["show", "acme"]);
    let events: Vec<&str> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["created", "moved", "held", "resumed"]);
    assert_eq!(shown["history"][1]["by"], "gatewayzen_operator");
    assert_eq!(shown["changed_why"], "customer 7");
    assert!(shown["since"].as_str().unwrap().ends_with('Z'), "{shown}");
    let text = world.ok(&["show", "acme"]);
    assert!(
        text.contains("new → instance: customer 7 (by gatewayzen_operator)"),
        "{text}"
    );
}

#[test]
fn every_column_of_the_table_is_shown() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    let shown = world.json(&["show", "acme"]);
    let columns: Vec<String> = world.runtime.block_on(async {
        use sqlx::Connection as _;
        let mut connection = sqlx::PgConnection::connect(&world.url()).await.unwrap();
        sqlx::query_scalar(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'gatewayds'",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap()
    });
    assert!(columns.len() > 30, "{columns:?}");
    for column in columns.iter().filter(|column| *column != "lease_token") {
        assert!(shown.get(column).is_some(), "{column} is not shown");
    }
}

#[test]
fn what_postgres_refuses_is_one_sentence_and_exit_code_1() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    for (args, sentence) in [
        (
            &["move", "acme", "live"][..],
            "is in state \"new\" and cannot be moved to \"live\"; from \"new\" it may be moved to \"instance\"",
        ),
        (&["create", "acme"], "there is a gatewayd of that name already"),
        (&["create", ""], "a name is 1 to 63 lower-case letters"),
        (
            &["create", "Acme; DROP TABLE"],
            "a name is 1 to 63 lower-case letters",
        ),
        (&["create", "x", "--ami", "windows"], "an AMI looks like"),
        (
            &["create", "x", "--instance-type", "big"],
            "an instance type looks like",
        ),
        (
            &["create", "x", "--release", "$(reboot)"],
            "a release is a git tag",
        ),
        (&["create", "x", "--owner", "a b"], "an owner is"),
        (&["hold", "acme", "--reason", ""], "the reason of a hold"),
        (&["show", "nobody"], "there is no gatewayd \"nobody\""),
        (&["why", "nobody"], "there is no gatewayd \"nobody\""),
        (&["retry", "nobody"], "there is no gatewayd \"nobody\""),
        (&["watch", "nobody"], "there is no gatewayd \"nobody\""),
    ] {
        let error = world.refused(args, 1);
        assert!(error.contains(sentence), "{args:?}: {error}");
    }
    assert_eq!(
        world.json(&["list"]).as_array().unwrap().len(),
        1,
        "a refused row is not there"
    );
}

#[test]
fn a_retry_acts_only_where_there_is_something_to_retry() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    world.ok(&["move", "acme", "instance"]);
    assert_eq!(world.json(&["retry", "acme"])[0]["changed"], false);
    let lease = world.take(1, State::Instance);
    world.finish(
        &lease,
        Outcome::Park {
            fault: "no capacity".into(),
            unblock: "Another type.".into(),
        },
    );
    assert_eq!(world.json(&["list", "--faulty"])[0]["unblock"], "Another type.");
    let retried = world.json(&["retry", "acme", "--why", "there is capacity again"]);
    assert_eq!(
        (&retried[0]["changed"], &retried[0]["fault"]),
        (&true.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        world.json(&["show", "acme"])["history"][3]["why"],
        "there is capacity again"
    );
}

#[test]
fn a_login_without_the_right_is_told_which_role_has_it() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    let mut hold = world.command(&["hold", "acme", "--reason", "x"]);
    let error = refused(
        hold.env("GATEWAYZEN_POSTGRES__URL", world.url_as("gatewayzen_app"))
            .output()
            .unwrap(),
        1,
    );
    assert!(
        error.contains("permission denied") && error.contains("gatewayzen_operator"),
        "{error}"
    );
}

#[test]
fn a_database_without_the_schema_is_told_apart() {
    let world = World::empty();
    assert!(world.refused(&["list"], 1).contains("run `gatewayzen migrate`"));
}

#[test]
fn a_bad_configuration_ends_with_64_and_names_the_setting() {
    let error = refused(
        bare(&["list"])
            .env("GATEWAYZEN_POSTGRES__URI", "x")
            .output()
            .unwrap(),
        64,
    );
    assert!(
        error.contains("postgres.uri") && error.contains("GATEWAYZEN_POSTGRES__URL"),
        "{error}"
    );
    let error = refused(
        bare(&["list"])
            .env("GATEWAYZEN_POSTGRES__URL", "post:secret")
            .output()
            .unwrap(),
        64,
    );
    assert!(
        error.contains("postgres.url") && !error.contains("secret"),
        "{error}"
    );
    let error = refused(bare(&["list", "--config", "nowhere.toml"]).output().unwrap(), 64);
    assert!(error.contains("nowhere.toml"), "{error}");
}

#[test]
fn servers_that_are_away_end_with_69_and_are_named() {
    // Port 1 is closed everywhere.
    let mut list = bare(&["list"]);
    list.env(
        "GATEWAYZEN_POSTGRES__URL",
        "postgres://joe:hunter2@127.0.0.1:1/fleet",
    )
    .env("GATEWAYZEN_POSTGRES__ACQUIRE_TIMEOUT", "300ms");
    let error = refused(list.output().unwrap(), 69);
    assert!(
        error.contains("joe at 127.0.0.1:1, database fleet") && !error.contains("hunter2"),
        "{error}"
    );
    let mut enqueue = bare(&["enqueue", "startGatewayd", "1"]);
    let error = refused(
        enqueue
            .env("GATEWAYZEN_REDIS__URL", "redis://127.0.0.1:1")
            .output()
            .unwrap(),
        69,
    );
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for args in [
        &["move", "acme"][..],
        &["move", "acme", "lively"],
        &["enqueue", "stop", "1"],
        &["enqueue", "startGatewayd", "0"],
        &["watch", "--timeout", "soon"],
        &[],
    ] {
        refused(bare(args).output().unwrap(), 2);
    }
}

#[test]
fn help_tells_the_exit_codes_and_every_shell_has_its_completions() {
    let help = String::from_utf8(bare(&["--help"]).output().unwrap().stdout).unwrap();
    for code in ["  3  ", "  4  ", "  64 ", "  69 "] {
        assert!(help.contains(code), "{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    for shell in ["bash", "zsh", "fish"] {
        let script = bare(&["completions", shell]).output().unwrap();
        assert!(
            script.status.success() && String::from_utf8_lossy(&script.stdout).contains("enqueue"),
            "{shell}"
        );
    }
}

#[test]
fn an_enqueued_job_is_a_resque_job_and_a_useless_one_is_said_to_be() {
    let world = World::new();
    world.ok(&["create", "acme"]);
    let said = world.ok(&["enqueue", "initializeEc2Instance", "1"]);
    assert!(
        said.contains(r#"{"class":"initializeEc2Instance","args":[1]}"#),
        "{said}"
    );
    assert!(
        said.contains("acme is in state new, and this job is for state instance: it will change nothing"),
        "{said}"
    );
    assert!(
        world
            .ok(&["enqueue", "initializeEc2Instance", "99"])
            .contains("no gatewayd has the id 99")
    );
    assert_eq!(
        world.json(&["enqueue", "initializeEc2Instance", "1"])["waiting"],
        3
    );
}

#[test]
fn doctor_names_what_is_missing_and_is_content_when_nothing_is() {
    let world = World::empty();
    let check = |name: &str| {
        let done = world.run(&["doctor", "--json"]);
        let checks: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        let found = checks
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["check"] == name)
            .cloned();
        (
            found.unwrap_or_else(|| panic!("no check {name} in {checks}")),
            done.status.code(),
        )
    };
    let (schema, code) = check("schema");
    assert_eq!((&schema["status"], code), (&"fail".into(), Some(1)));
    assert!(
        schema["mend"].as_str().unwrap().contains("gatewayzen migrate"),
        "{schema}"
    );

    world.ok(&["migrate"]);
    assert_eq!(check("schema").0["status"], "ok");
    let (worker, code) = check("setColdWallet");
    assert_eq!((&worker["status"], code), (&"fail".into(), Some(1)));
    assert!(
        worker["found"]
            .as_str()
            .unwrap()
            .contains("no wallet-worker listens"),
        "{worker}"
    );
    for step in gatewayzen_core::Step::ALL {
        world.register_worker(step.queue());
    }
    assert_eq!(check("setColdWallet").0["status"], "ok");
    for clock in ["clock (Postgres)", "clock (Redis)"] {
        assert_eq!(check(clock).0["status"], "ok");
    }

    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, "no key ring").unwrap();
    let mut doctor = world.command(&["doctor"]);
    doctor
        .env("GATEWAYZEN_SECRETS__KEY_FILE", &keys)
        .env("GATEWAYZEN_SSH__KEY_FILE", folder.path().join("none"));
    let done = doctor.output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(
        text.contains("fail  sealing keys") && text.contains("fail  SSH key"),
        "{text}"
    );
    assert!(text.contains("chmod 600"), "{text}");
}

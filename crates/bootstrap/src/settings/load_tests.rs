use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::*;

fn with(file: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("gatewayzen.toml");
    std::fs::write(&path, file).unwrap();
    let variables = environment
        .iter()
        .map(|(name, value)| (name.into(), value.into()));
    read(Some(&path), variables).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "one line: {text}");
        text.replace(path.to_str().unwrap(), "FILE")
    })
}

fn refused(file: &str, environment: &[(&str, &str)]) -> String {
    with(file, environment).map(drop).unwrap_err()
}

#[test]
fn the_defaults_alone_are_a_configuration_without_a_warning() {
    let settings = read(None, []).unwrap();
    assert_eq!(settings.worker.slots, 50);
    assert_eq!(settings.worker.lease, Duration::from_secs(30));
    assert_eq!(settings.warnings(), Vec::<String>::new());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[worker]\nslots = 7\nlease = \"8s\"\n[ec2.releases]\n\"v1.2.3\" = \"ami-1\"\n";
    let settings = with(
        file,
        &[
            ("GATEWAYZEN_WORKER__SLOTS", "9"),
            ("HOME", "/"),
            ("GATEWAYZEN_CONFIG", "x"),
        ],
    )
    .unwrap();
    assert_eq!(settings.worker.slots, 9);
    assert_eq!(settings.worker.lease, Duration::from_secs(8));
    assert_eq!(settings.worker.max_attempts, 8);
    assert_eq!(settings.ec2.releases["v1.2.3"], "ami-1");
}

#[test]
fn lists_tables_and_texts_come_from_the_environment() {
    let settings = with(
        "",
        &[
            (
                "GATEWAYZEN_WORKER__QUEUES",
                r#"["startGatewayd", "stopGatewayd"]"#,
            ),
            ("GATEWAYZEN_EC2__RELEASES", r#"{ "v1.2.3" = "ami-1" }"#),
            ("GATEWAYZEN_REDIS__NAMESPACE", "{resque}"),
            ("GATEWAYZEN_EC2__SUBNET", "123"),
            ("GATEWAYZEN_SWEEP__MOST_SHARE", "0.25"),
            ("GATEWAYZEN_GATEWAYD__COMMANDS__START", "a = [1"),
        ],
    )
    .unwrap();
    assert_eq!(settings.worker.queues, ["startGatewayd", "stopGatewayd"]);
    assert_eq!(settings.ec2.releases["v1.2.3"], "ami-1");
    assert_eq!(settings.redis.namespace, "{resque}");
    assert_eq!(settings.ec2.subnet, "123");
    assert_eq!(settings.sweep.most_share, 0.25);
    assert_eq!(settings.gatewayd.commands.start, "a = [1");
    let json = [("GATEWAYZEN_EC2__RELEASES", r#"{"v1": "ami-2"}"#)];
    assert_eq!(with("", &json).unwrap().ec2.releases["v1"], "ami-2");
}

#[test]
fn an_unknown_key_is_refused_by_name_with_what_was_meant() {
    assert_eq!(
        refused("[worker]\nslotz = 1", &[]),
        "worker.slotz (FILE): there is no such setting; did you mean worker.slots?"
    );
    assert_eq!(
        refused("[postgres]\npassword = \"hunter2\"", &[]),
        "postgres.password (FILE): there is no such setting; [postgres] has acquire_timeout, max_connections, password_file, url"
    );
    assert!(refused("[mysql]\nurl = \"x\"", &[]).contains("the sections are deadlines, dispatcher, ec2,"));
    assert!(
        refused("[ec2.release]\nv1 = \"ami-1\"", &[]).starts_with("ec2.release.v1 (FILE): there is no such")
    );
    assert_eq!(
        refused("", &[("GATEWAYZEN_POSTGRES_URL", "postgres://x:hunter2@y/z")]),
        "postgres_url (GATEWAYZEN_POSTGRES_URL): there is no such setting; did you mean GATEWAYZEN_POSTGRES__URL?"
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_its_key_and_its_origin() {
    for (file, expected) in [
        (
            "[worker]\nslots = \"many\"",
            "worker.slots (FILE): expected a whole number, not below 0, found the text \"many\"",
        ),
        (
            "[worker]\nslots = -1",
            "worker.slots (FILE): expected a whole number, not below 0, found the number -1",
        ),
        (
            "[ssh]\nport = 70000",
            "ssh.port (FILE): expected a whole number from 0 to 65535, found the number 70000",
        ),
        (
            "[ssh]\nuser = 7",
            "ssh.user (FILE): expected a text in quotes, found the number 7",
        ),
        (
            "worker = 5",
            "worker (FILE): expected a section of settings, found the number 5",
        ),
        (
            "[hosts]\nconnect_via = \"vpn\"",
            "hosts.connect_via (FILE): expected \"private\" or \"public\", found \"vpn\"",
        ),
        (
            "[worker]\nlease = \"10 minutes\"",
            "worker.lease (FILE): \"10 minutes\" is not a duration; write a whole number and its unit \
             (ms, s, m, h or d), as in \"250ms\" or \"30s\"",
        ),
    ] {
        assert_eq!(refused(file, &[]), expected);
    }
    assert_eq!(
        refused("", &[("GATEWAYZEN_WORKER__SLOTS", "many")]),
        "worker.slots (GATEWAYZEN_WORKER__SLOTS): expected a whole number, found \"many\""
    );
    assert_eq!(
        refused("", &[("GATEWAYZEN_WORKER__QUEUES", "startGatewayd")]),
        "worker.queues (GATEWAYZEN_WORKER__QUEUES): expected a list as in [\"a\", \"b\"], found \"startGatewayd\""
    );
    assert!(
        refused("", &[("GATEWAYZEN_WORKER__LEASE", "soon")])
            .starts_with("worker.lease (GATEWAYZEN_WORKER__LEASE): \"soon\"")
    );
}

#[test]
fn impossible_values_and_pairs_are_refused() {
    for (file, expected) in [
        (
            "[worker]\nslots = 0",
            "worker.slots (FILE): must be at least 1, is 0",
        ),
        (
            "[worker]\nlease = \"10ms\"",
            "worker.lease (FILE): must be at least 500ms",
        ),
        (
            "[worker]\nbackoff_longest = \"1s\"",
            "worker.backoff_longest (FILE): must not be shorter than worker.backoff_first, which is 5s",
        ),
        (
            "[worker]\nqueues = [\"startGateway\"]",
            "worker.queues (FILE): there is no queue \"startGateway\"; the queues are",
        ),
        ("[ssh]\nuser = \"\"", "ssh.user (FILE): must not be empty"),
        (
            "[dispatcher]\nperiod = \"0s\"",
            "dispatcher.period (FILE): must be longer than 0",
        ),
        (
            "[sweep]\ngrace = \"0s\"",
            "sweep.grace (FILE): must be longer than 0",
        ),
        (
            "[sweep]\nmost_share = 1.5",
            "sweep.most_share (FILE): must be from 0 to 1, is 1.5",
        ),
        (
            "[deadlines]\nkey = \"0s\"",
            "deadlines.key (FILE): must be longer than 0",
        ),
        (
            "[ec2]\nami = \"golden\"",
            "ec2.ami (FILE): \"golden\" is no AMI's id",
        ),
        (
            "[health]\nlisten = \"8080\"",
            "health.listen (FILE): must be an address and a port",
        ),
        (
            "[telemetry]\nlog = \"a=loud\"",
            "telemetry.log (FILE): \"a=loud\" is no log filter",
        ),
        (
            "[telemetry]\notlp_endpoint = \"localhost:4318\"",
            "telemetry.otlp_endpoint (FILE): must be the base URL",
        ),
        (
            "[secrets]\nkeys = \"a:b\"\nkey_file = \"c\"",
            "secrets.keys (FILE): secrets.key_file is set as well",
        ),
        (
            "[redis]\nnamespace = \"a b\"",
            "redis.namespace (FILE): must not be empty or hold blanks",
        ),
        ("[redis]\nurl = \"http://:hunter2@x\"", "redis.url (FILE): "),
        (
            "[postgres]\nurl = \"mysql://x:hunter2@y/z\"",
            "postgres.url (FILE): it does not begin with postgres://",
        ),
        (
            "[postgres]\nurl = \"postgres://x:hunter2@y:z/\"",
            "postgres.url (FILE): it cannot be read",
        ),
    ] {
        let text = refused(file, &[]);
        assert!(text.starts_with(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_queue_of_another_service_is_refused() {
    let settings = with("[worker]\nqueues = [\"startGatewayd\"]", &[]).unwrap();
    assert_eq!(settings.queues("ssh-worker").unwrap(), ["startGatewayd"]);
    assert_eq!(settings.queues("dispatcher").unwrap(), Vec::<String>::new());
    assert_eq!(
        settings.queues("wallet-worker").unwrap_err().to_string(),
        "worker.queues: wallet-worker does not take \"startGatewayd\"; it takes setColdWallet"
    );
    let settings = with("", &[]).unwrap();
    assert_eq!(
        settings.queues("instance-worker").unwrap(),
        ["initializeEc2Instance", "terminateEc2Instance"]
    );
}

#[test]
fn dangerous_pairs_are_warned_of() {
    let settings = with("[worker]\nlease = \"2s\"\nstep_timeout = \"20m\"", &[]).unwrap();
    let warnings = settings.warnings().join("\n");
    for expected in [
        "worker.lease is 2s",
        "postgres.acquire_timeout (5s) is not shorter",
        "deadlines.key (900s) is shorter",
    ] {
        assert!(warnings.contains(expected), "{warnings}");
    }
}

#[test]
fn a_sweep_ends_few_machines_of_a_small_fleet_and_no_more_than_so_many_of_a_large_one() {
    let sweep = read(None, []).unwrap().sweep;
    for (machines, cap) in [(0, 1), (1, 1), (19, 1), (20, 2), (99, 9), (100, 10), (5000, 10)] {
        assert_eq!(sweep.cap(machines), cap, "{machines}");
    }
    let none = with("[sweep]\nmost = 0", &[]).unwrap().sweep;
    assert_eq!(none.cap(100), 0);
    assert!(sweep.every.is_zero(), "never by itself, unless it is asked for");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_named() {
    let text = read(Some(Path::new("/nowhere/gatewayzen.toml")), [])
        .map(drop)
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "/nowhere/gatewayzen.toml: the configuration file cannot be read: No such file or directory (os error 2)"
    );
    let text = refused(
        "[postgres]\nmax_connections = 5\nurl = \"postgres://x:hunter2@y\n",
        &[],
    );
    assert!(text.starts_with("FILE: line 3 is not TOML: "), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn no_message_and_no_debug_output_shows_a_secret() {
    let file = "[postgres]\nurl = \"postgres://x:hunter2@y/z\"\n[secrets]\nkeys = \"a:hunter2\"\n[redis]\nurl = \"redis://:hunter2@h\"";
    let settings = with(file, &[]).unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(settings.postgres.url.expose_secret().contains("hunter2"));
    for file in [
        "[secrets]\nkeys = 5551234",
        "[secrets]\nkeys = [\"5551234\"]",
        "[postgres]\nurl = 5551234",
    ] {
        let text = refused(file, &[]);
        assert!(!text.contains("5551234"), "{text}");
    }
}

#[test]
fn a_password_file_completes_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    // What would end the user's part of a URL, and the newline that every editor adds.
    std::fs::write(&path, "p@ss:w/rd#?%\n").unwrap();
    let file = path.to_str().unwrap();
    let read = with(
        "postgres.url = \"postgres://joe@db:5433/fleet?sslmode=require\"\nredis.url = \"redis://cache:6380/2\"",
        &[
            ("GATEWAYZEN_POSTGRES__PASSWORD_FILE", file),
            ("GATEWAYZEN_REDIS__PASSWORD_FILE", file),
        ],
    )
    .unwrap();
    assert_eq!(
        read.postgres.url.expose_secret(),
        "postgres://joe:p%40ss%3Aw%2Frd%23%3F%25@db:5433/fleet?sslmode=require"
    );
    assert_eq!(
        read.redis.url.expose_secret(),
        "redis://:p%40ss%3Aw%2Frd%23%3F%25@cache:6380/2"
    );
}

#[test]
fn a_password_file_that_cannot_serve_is_refused_and_nothing_of_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let setting = format!("postgres.password_file = \"{}\"", path.display());
    assert!(refused(&setting, &[]).contains("cannot be read"));
    std::fs::write(&path, "\n").unwrap();
    assert!(refused(&setting, &[]).contains("is empty; it holds the password and nothing else"));
    std::fs::write(&path, "hunter2").unwrap();
    let text = refused(
        &setting,
        &[("GATEWAYZEN_POSTGRES__URL", "postgres://joe:hunter3@db/fleet")],
    );
    assert!(
        text.starts_with("postgres.password_file (FILE): ") && text.contains("leave one of the two out"),
        "{text}"
    );
    assert!(!text.contains("hunter"), "{text}");
}

//! The frame as a process: `examples/minimal.rs`, run as a service is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test says what it expects by unwrapping it"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

/// Cargo builds examples before it runs an integration test, into the folder beside the test's.
fn minimal() -> Command {
    let test = std::env::current_exe().unwrap();
    let binary: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/minimal");
    assert!(
        binary.exists(),
        "{} is missing: run the tests without --test, or with --examples",
        binary.display()
    );
    let mut command = Command::new(binary);
    command
        .env_clear()
        .stdin(Stdio::null())
        .current_dir(std::env::temp_dir());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// A running service that is killed with the test.
struct Running {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Running { child, lines }
    }

    /// Reads the log up to a line that holds `text`.
    fn line_with(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(
                self.lines.read_line(&mut line).unwrap() > 0,
                "the log ended without \"{text}\":\n{all}"
            );
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Its exit code, and the rest of its log.
    fn end(&mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Settings under which neither Postgres nor Redis is there: port 1 refuses.
fn nobody_there(command: &mut Command) -> &mut Command {
    command
        .env(
            "GATEWAYZEN_POSTGRES__URL",
            "postgres://joe:hunter2@127.0.0.1:1/fleet",
        )
        .env("GATEWAYZEN_REDIS__URL", "redis://:hunter2@127.0.0.1:1")
        .env("GATEWAYZEN_HEALTH__LISTEN", "127.0.0.1:0")
}

#[test]
fn a_bad_configuration_exits_64_with_one_line() {
    let (code, stdout, stderr) = run(minimal().env("GATEWAYZEN_WORKER__SLOTZ", "5"));
    assert_eq!(code, 64);
    assert_eq!(stdout, "");
    assert_eq!(
        stderr,
        "minimal: bad configuration: worker.slotz (GATEWAYZEN_WORKER__SLOTZ): there is no such setting; \
         did you mean GATEWAYZEN_WORKER__SLOTS?\n"
    );
    let (code, _, stderr) = run(minimal().args(["--config", "/nowhere/gatewayzen.toml"]));
    assert_eq!((code, stderr.lines().count()), (64, 1), "{stderr}");
    let (code, _, stderr) = run(minimal().env("GATEWAYZEN_CONFIG", "/nowhere/gatewayzen.toml"));
    assert_eq!(
        (code, stderr.contains("/nowhere/gatewayzen.toml")),
        (64, true),
        "{stderr}"
    );
    assert_eq!(run(minimal().arg("--chekc")).0, 64);
    // Without an address there is nobody to ask.
    assert_eq!(run(minimal().arg("--ready")).0, 64);
}

#[test]
fn check_says_that_the_configuration_is_good_and_leaves() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("gatewayzen.toml"),
        "[worker]\nlease = \"2s\"\n",
    )
    .unwrap();
    let (code, stdout, stderr) = run(minimal().arg("--check").current_dir(folder.path()));
    assert_eq!(
        (code, stdout.as_str()),
        (0, "minimal: the configuration is good\n")
    );
    assert!(
        stderr.starts_with("minimal: warning: worker.lease is 2s"),
        "{stderr}"
    );
    assert_eq!(run(minimal().arg("--help")).0, 0);
}

#[test]
fn a_service_without_postgres_and_redis_waits_says_why_and_stops_at_once() {
    let mut service = Running::start(nobody_there(&mut minimal()));
    let line = service.line_with("health on http://");
    let address = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let line = service.line_with("cannot be used");
    assert!(
        line.contains("Postgres at 127.0.0.1:1 cannot be used: Connection refused"),
        "{line}"
    );
    assert!(
        line.contains(" minimal ") && line.contains("check that it runs"),
        "{line}"
    );

    assert!(get(&address, "/healthz").starts_with("HTTP/1.1 200"));
    let answer = get(&address, "/readyz");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let postgres = body["reasons"]["postgres"].as_str().unwrap();
    assert!(postgres.contains("Connection refused"), "{body}");
    assert_eq!(body["reasons"]["redis"], "not connected yet");

    let (code, _, answer_of_ready) = run(nobody_there(&mut minimal())
        .arg("--ready")
        .env("GATEWAYZEN_HEALTH__LISTEN", &address));
    assert_eq!(code, 69);
    assert!(
        answer_of_ready.starts_with("minimal: not ready: ") && answer_of_ready.contains("Connection refused"),
        "{answer_of_ready}"
    );

    service.signal("TERM");
    let (code, rest) = service.end();
    assert_eq!(code, Some(0));
    assert_eq!(
        rest.matches("cannot be used").count(),
        0,
        "one line for an outage: {rest}"
    );
    assert!(!(line + &rest + &answer).contains("hunter2"));
}

#[test]
fn a_second_signal_ends_a_service_that_hangs() {
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let mut service = Running::start(nobody_there(&mut minimal()).env("HANG", "1"));
        service.line_with("health on");
        service.signal(name);
        service.line_with("a second signal ends at once");
        service.signal(name);
        assert_eq!(service.end().0, Some(code));
    }
}

//! The commands of the default configuration, in a real shell with the real programs that they call.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use gatewayzen_bootstrap::settings;
use ssh_worker::parse;
use ssh_worker::remote::{self, Command};

/// A login's home with a gatewayd in it.
struct Home(tempfile::TempDir);

struct Ran {
    stdout: Vec<u8>,
    status: i32,
}

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.gatewayd().join("config")).unwrap();
        home.write("package.json", r#"{"name":"gatewayd","version":"1.0.0"}"#);
        home
    }

    fn gatewayd(&self) -> PathBuf {
        self.0.path().join("gatewayd")
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.gatewayd().join(path), text).unwrap();
    }

    fn run(&self, command: Command, release: Option<&str>) -> Ran {
        let settings = settings::load(None).unwrap().gatewayd;
        let line = remote::line(&settings, command, 42, 1, release, Duration::from_secs(60));
        let output = self.shell(&line.text).output().unwrap();
        Ran {
            stdout: output.stdout,
            status: output.status.code().unwrap(),
        }
    }

    fn shell(&self, script: &str) -> std::process::Command {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", script])
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        shell
    }

    /// Makes gatewayd a git checkout with the tags v1.0.0 (in place) and v2.0.0, and a branch that is called v2.0.0 too.
    fn with_git(self) -> Self {
        let script = "cd gatewayd && mkdir logs && echo first >logs/log && g() { git -c user.name=t -c user.email=t@t \"$@\"; } && \
            g init -q -b master && g add . && g commit -q -m 1 && g tag v1.0.0 && sed -i s/1.0.0/2.0.0/ package.json && \
            g commit -q -a -m 2 && g tag -a -m 2 v2.0.0 && g branch v2.0.0 v1.0.0 && g checkout -q --detach refs/tags/v1.0.0";
        assert!(self.shell(script).status().unwrap().success());
        self
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn tls_makes_a_private_pair_once_and_keeps_it() {
    let home = Home::new();
    let first = home.run(Command::Tls, None);
    assert_eq!(first.status, 0);
    let fingerprint = parse::certificate(&first.stdout).expect("a certificate");
    let pair = home.0.path().join(".gatewayzen/tls");
    assert_eq!(
        (
            mode(&home.0.path().join(".gatewayzen")),
            mode(&pair),
            mode(&pair.join("key.pem"))
        ),
        (0o700, 0o700, 0o600)
    );
    let key = fs::read(pair.join("key.pem")).unwrap();
    // What a crash in the middle of making another pair would leave.
    fs::create_dir(pair.with_extension("new")).unwrap();
    fs::write(pair.with_extension("new").join("key.pem"), "half").unwrap();
    assert_eq!(
        parse::certificate(&home.run(Command::Tls, None).stdout),
        Some(fingerprint)
    );
    assert_eq!(fs::read(pair.join("key.pem")).unwrap(), key);
}

#[test]
fn tls_never_uses_half_a_pair() {
    let home = Home::new();
    let pair = home.0.path().join(".gatewayzen/tls");
    fs::create_dir_all(&pair).unwrap();
    for (key, certificate) in [
        (Some("key"), None),
        (Some("key"), Some("")),
        (Some(""), Some("certificate")),
    ] {
        let put = |name: &str, text: Option<&str>| match text {
            Some(text) => fs::write(pair.join(name), text).unwrap(),
            None => fs::remove_file(pair.join(name)).unwrap_or_default(),
        };
        put("key.pem", key);
        put("certificate.pem", certificate);
        let made = home.run(Command::Tls, None);
        assert!(parse::certificate(&made.stdout).is_some());
        assert!(
            fs::read_to_string(pair.join("key.pem"))
                .unwrap()
                .contains("PRIVATE KEY")
        );
    }
}

#[test]
fn release_tells_version_commit_and_the_commit_of_the_tag_asked_for() {
    let home = Home::new();
    let read = |home: &Home, release| parse::release(&home.run(Command::Release, release).stdout).unwrap();
    let plain = read(&home, Some("v2.0.0"));
    assert_eq!(
        (plain.version.as_str(), plain.commit.as_str(), plain.tag_commit),
        ("1.0.0", "", None)
    );
    let home = home.with_git();
    let (one, two) = (read(&home, Some("v1.0.0")), read(&home, Some("v2.0.0")));
    assert_eq!(one.tag_commit.as_ref(), Some(&one.commit));
    assert!(two.commit == one.commit && two.tag_commit.is_some_and(|tag| tag != one.commit));
    assert_eq!(read(&home, Some("v3")).tag_commit, None);
}

#[test]
fn checkout_takes_the_tag_over_a_branch_and_over_a_changed_log() {
    let home = Home::new().with_git();
    home.write("logs/log", "first\nchanged by a running gatewayd\n");
    assert_eq!(home.run(Command::Checkout, Some("v2.0.0")).status, 0);
    let found = parse::release(&home.run(Command::Release, Some("v2.0.0")).stdout).unwrap();
    assert_eq!(
        (found.version.as_str(), found.tag_commit.as_ref()),
        ("2.0.0", Some(&found.commit))
    );
    // Again, as a try after a crash would.
    assert_eq!(home.run(Command::Checkout, Some("v2.0.0")).status, 0);
}

#[test]
fn checkout_of_an_unknown_or_hostile_tag_changes_nothing() {
    let home = Home::new().with_git();
    for tag in [
        "v9",
        "master",
        "-f",
        "--help",
        "v2.0.0; touch owned",
        "$(touch owned)",
    ] {
        assert_eq!(home.run(Command::Checkout, Some(tag)).status, 66, "{tag}");
    }
    assert!(!home.gatewayd().join("owned").exists());
    assert_eq!(
        parse::release(&home.run(Command::Release, None).stdout)
            .unwrap()
            .version,
        "1.0.0"
    );
}

#[test]
fn the_saved_wallet_is_read_from_gatewayds_file() {
    let home = Home::new();
    let address = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
    assert_eq!(
        parse::wallet(&home.run(Command::SavedWallet, None).stdout),
        Ok(None)
    );
    for (text, saved) in [
        (
            format!(r#"{{"KEY":"k","COLD_WALLET":"{address}"}}"#),
            Some(address),
        ),
        (
            format!(r#"{{"COLD_WALLET":{{"address":"{address}"}}}}"#),
            Some(address),
        ),
        (r#"{"COLD_WALLET":{"address":{}}}"#.to_owned(), None),
        (r#"{"COLD_WALLET":null}"#.to_owned(), None),
        (r#"{"KEY":"k"}"#.to_owned(), None),
    ] {
        home.write("config/config.json", &text);
        let ran = home.run(Command::SavedWallet, None);
        assert_eq!(
            (ran.status, parse::wallet(&ran.stdout).unwrap().as_deref()),
            (0, saved),
            "{text}"
        );
    }
    home.write("config/config.json", r#"{"COLD_WALLET":"r"#);
    assert_ne!(
        home.run(Command::SavedWallet, None).status,
        0,
        "a cut file is not an unset wallet"
    );
}

/// Ends with the test.
struct Running(Child);

impl Running {
    fn start(folder: &Path, program: &str, arguments: &[&str]) -> Self {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let running = Self(command.spawn().unwrap());
        // Until it has become the program asked for.
        let exe = format!("/proc/{}/cmdline", running.0.id());
        while !fs::read_to_string(&exe)
            .unwrap()
            .contains(arguments[arguments.len() - 1])
        {
            std::thread::yield_now();
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn processes_lists_node_programs_of_this_gatewayd_and_nothing_else() {
    let home = Home::new();
    let elsewhere = Home::new();
    let listed = |home: &Home| {
        let ran = home.run(Command::Processes, None);
        assert_eq!(ran.status, 0);
        parse::pids(&ran.stdout).unwrap()
    };
    let node = ["-e", "setInterval(function () {}, 1000)", "processes/server.js"];
    home.write("log", "");
    let _editor = Running::start(
        &home.gatewayd(),
        "tail",
        &["-f", "log", "--", "processes/server.js"],
    );
    assert!(listed(&home).is_empty());
    let server = Running::start(&home.gatewayd(), "node", &node);
    let _other = Running::start(&elsewhere.gatewayd(), "node", &node);
    assert_eq!(listed(&home), [server.0.id()]);
    drop(server);
    assert!(listed(&home).is_empty());
}

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

/// Waits for a condition, for a limit that only a defect reaches.
fn soon(happens: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !happens() {
        assert!(std::time::Instant::now() < end, "it takes a minute already");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The files of a machine's root as cloud-init left them, and a shell in which the commands find them.
struct Machine {
    home: Home,
    /// Stands for the SSH server, of which only the signal to reload is wanted here.
    sshd: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl Machine {
    fn new() -> Self {
        let home = Home::new();
        let script = "mkdir -p root/etc/ssh root/run root/var/lib/cloud/instance/sem root/var/log .ssh && cd root/etc/ssh && \
            for kind in ed25519 rsa ecdsa; do ssh-keygen -q -t $kind -N '' -C '' -f ssh_host_${kind}_key; done";
        assert!(home.shell(script).status().unwrap().success());
        // Whatever reloads a server must reach this one and no other.
        // Under nohup a shell would inherit that SIGHUP is ignored, and could not trap it.
        let sshd = std::process::Command::new("env")
            .args([
                "--default-signal=HUP",
                "sh",
                "-c",
                "trap 'echo reloaded >>reloads' HUP; touch ready; while :; do sleep 0.05; done",
            ])
            .current_dir(home.0.path())
            .spawn()
            .unwrap();
        let machine = Machine { home, sshd };
        // A signal before its trap is set would end it.
        soon(|| machine.home.0.path().join("ready").exists());
        machine.write("run/sshd.pid", &machine.sshd.id().to_string());
        let launch = machine.read("etc/ssh/ssh_host_ed25519_key");
        let cloud = "var/lib/cloud/instance";
        machine.write(&format!("{cloud}/user-data.txt"), "#cloud-config\n");
        machine.write(&format!("{cloud}/obj.pkl"), "pickled");
        machine.write(
            &format!("{cloud}/another"),
            &format!("ed25519_private: |\n{launch}"),
        );
        machine.write(&format!("{cloud}/sem/config_ssh"), "done");
        machine.write("var/log/cloud-init.log", &launch);
        machine.write("var/log/syslog", "nothing of it");
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.0.path().join("root").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Type and key of the host key that is in place.
    fn in_place(&self) -> String {
        let script = "ssh-keygen -y -f root/etc/ssh/ssh_host_ed25519_key | cut -d ' ' -f 1,2";
        let output = self.home.shell(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn run(&self, command: Command, variables: &[(&str, &str)]) -> (String, i32, String) {
        let settings = settings::load(None).unwrap().gatewayd;
        let line = remote::line_with(&settings, command, 42, 1, variables, Duration::from_secs(60));
        let home = self.home.0.path();
        let mut shell = self.home.shell(&line.text);
        shell
            .env("HOME", home)
            .env("GATEWAYZEN_ROOT", home.join("root"))
            .env("GATEWAYZEN_AS_ROOT", "");
        let output = shell.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            text(output.stdout),
            output.status.code().unwrap(),
            text(output.stderr),
        )
    }

    fn make(&self) -> String {
        let (stdout, status, errors) = self.run(Command::MakeHostKey, &[]);
        assert_eq!(status, 0, "{errors}");
        ssh_worker::identity::line(&parse::host_key(stdout.as_bytes()).unwrap())
    }

    fn install(&self, new: &str, before: &str) -> (String, i32, String) {
        let variables = [
            ("GATEWAYZEN_HOST_KEY", new),
            ("GATEWAYZEN_HOST_KEY_BEFORE", before),
        ];
        self.run(Command::InstallHostKey, &variables)
    }

    fn everything_under(&self, path: &str) -> String {
        let output = self
            .home
            .shell(&format!("grep -r '' {path} 2>/dev/null"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn a_host_key_is_made_once_installed_and_the_launchs_is_erased_everywhere() {
    let machine = Machine::new();
    let (before, launch) = (machine.in_place(), machine.read("etc/ssh/ssh_host_ed25519_key"));
    let new = machine.make();
    assert_ne!(new, before);
    assert_eq!(
        machine.make(),
        new,
        "a try after a crash finds the one that was made"
    );
    for _ in 0..2 {
        assert_eq!(machine.install(&new, &before).1, 0);
        assert_eq!(machine.in_place(), new);
    }
    let reloads = machine.home.0.path().join("reloads");
    soon(|| !fs::read_to_string(&reloads).unwrap_or_default().is_empty());
    assert_eq!(mode(&machine.path("etc/ssh/ssh_host_ed25519_key")), 0o600);
    assert!(machine.read("etc/ssh/ssh_host_ed25519_key.pub").starts_with(&new));
    assert!(
        machine
            .read("etc/ssh/sshd_config.d/00-gatewayzen.conf")
            .contains("ssh_host_ed25519_key")
    );
    assert_eq!(
        machine.make(),
        new,
        "until it is erased it can be installed again"
    );

    for _ in 0..2 {
        let (_, status, errors) = machine.run(Command::EraseHostKey, &[("GATEWAYZEN_HOST_KEY", &new)]);
        assert_eq!(status, 0, "{errors}");
        assert_eq!(machine.in_place(), new);
    }
    let secret = launch.lines().nth(3).unwrap();
    assert!(!machine.everything_under(".").contains(secret));
    assert!(!machine.home.0.path().join(".gatewayzen/ssh").exists());
    for gone in [
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_ecdsa_key.pub",
        "var/lib/cloud/instance/user-data.txt",
        "var/lib/cloud/instance/obj.pkl",
        "var/log/cloud-init.log",
    ] {
        assert!(!machine.path(gone).exists(), "{gone}");
    }
    assert_eq!(machine.read("var/lib/cloud/instance/sem/config_ssh"), "done");
    assert_eq!(machine.read("var/log/syslog"), "nothing of it");
}

#[test]
fn a_host_key_is_not_installed_where_the_server_uses_another_file_or_the_key_is_not_the_one_that_was_made() {
    let machine = Machine::new();
    let before = machine.in_place();
    let new = machine.make();
    let (_, status, errors) = machine.install(&new, "ssh-ed25519 AAAAsomebodyelses");
    assert_eq!(status, 1);
    assert!(errors.contains("does not use"), "{errors}");
    let (_, status, errors) = machine.install("ssh-ed25519 AAAAnobodys", &before);
    assert_eq!(status, 1);
    assert!(errors.contains("the new key is not there"), "{errors}");
    assert_eq!(machine.in_place(), before);
}

#[test]
fn a_login_key_is_added_once_and_taken_out_only_where_the_other_stays() {
    let machine = Machine::new();
    let file = machine.home.0.path().join(".ssh/authorized_keys");
    let (old, new) = ("ssh-ed25519 AAAAold", "ssh-ed25519 AAAAnew");
    // Without a line break at its end.
    fs::write(&file, format!("# ours\n{old} ubuntu@first")).unwrap();
    let out = |key: &str, kept: &str| {
        let variables = [("GATEWAYZEN_SSH_KEY", key), ("GATEWAYZEN_SSH_KEY_KEPT", kept)];
        machine.run(Command::DeauthorizeKey, &variables)
    };
    let (_, status, errors) = out(old, new);
    assert_eq!(status, 1);
    assert!(errors.contains("nothing is taken out"), "{errors}");
    for _ in 0..2 {
        assert_eq!(
            machine
                .run(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", new)])
                .1,
            0
        );
    }
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text, format!("# ours\n{old} ubuntu@first\n{new} gatewayzen\n"));
    for _ in 0..2 {
        assert_eq!(out(old, new).1, 0);
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            format!("# ours\n{new} gatewayzen\n")
        );
    }
    assert_eq!(mode(&file), 0o600);
    // And where there was no file at all.
    fs::remove_file(&file).unwrap();
    assert_eq!(
        machine
            .run(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", new)])
            .1,
        0
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("{new} gatewayzen\n"));
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

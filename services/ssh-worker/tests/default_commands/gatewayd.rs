//! What a gatewayd has saved, and which processes are its own.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use ssh_worker::parse;
use ssh_worker::remote::Command;

use crate::home::Home;
use crate::machine::soon;

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
        let last = arguments[arguments.len() - 1];
        soon(|| fs::read_to_string(&exe).unwrap().contains(last));
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

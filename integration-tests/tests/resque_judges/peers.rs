//! The other clients as processes.

use std::path::PathBuf;
use std::process::Stdio;

use integration_tests::harness::{PATIENCE, dev_folder, npm_folder};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::stand::NAMESPACE;

/// A client that nobody here wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    /// npm node-resque 9.7.1.
    Node,
    /// npm node-resque 0.7.1, of 2014.
    Node2014,
    /// PyPI pyres 1.5.
    Pyres,
}

impl Peer {
    /// The list, outside all namespaces, in which its worker notes what it has done.
    pub(crate) fn done_list(self) -> &'static str {
        match self {
            Peer::Node => "done:node",
            Peer::Node2014 => "done:node-2014",
            Peer::Pyres => "done:pyres",
        }
    }

    async fn command(self, action: &str, redis_url: &str, arguments: &[&str]) -> Command {
        let mut command = match self {
            Peer::Node => node("node-resque").await,
            Peer::Node2014 => node("node-resque-2014").await,
            Peer::Pyres => python().await,
        };
        command.args([action, redis_url]);
        if !matches!(self, Peer::Pyres) {
            command.arg(NAMESPACE);
        }
        command.args(arguments).kill_on_drop(true);
        command
    }

    /// Does something with it, and reads what it prints.
    pub(crate) async fn run(self, action: &str, redis_url: &str, arguments: &[&str]) -> Value {
        let mut command = self.command(action, redis_url, arguments).await;
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).output());
        let output = output.await.expect("its end").expect("its start");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {action}: {error}");
        if output.stdout.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Starts what goes on until it is stopped, and waits until it says that it is ready.
    pub(crate) async fn start(self, action: &str, redis_url: &str, arguments: &[&str]) -> RunningPeer {
        let mut command = self.command(action, redis_url, arguments).await;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("its start");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut line = String::new();
        let read = timeout(PATIENCE, output.read_line(&mut line)).await;
        let mut peer = RunningPeer {
            name: format!("{self:?} {action}"),
            child,
            _output: output,
        };
        if read.is_err() || line.trim() != "ready" {
            let _ = peer.child.start_kill();
            let errors = peer.errors().await;
            panic!("{} said {line:?}, not that it is ready: {errors}", peer.name);
        }
        peer
    }
}

/// A running client; killed when it is dropped.
pub(crate) struct RunningPeer {
    name: String,
    child: Child,
    // Closed, it would end a client that prints.
    _output: BufReader<ChildStdout>,
}

impl RunningPeer {
    /// Has it stop in order.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended
            .unwrap_or_else(|_| panic!("{} did not end", self.name))
            .unwrap();
        let errors = self.errors().await;
        assert!(status.success(), "{}: {errors}", self.name);
    }

    async fn errors(&mut self) -> String {
        let mut text = String::new();
        if let Some(stream) = &mut self.child.stderr {
            let _ = stream.read_to_string(&mut text).await;
        }
        text
    }
}

async fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg("peer.mjs").current_dir(npm_folder(name).await);
    command
}

static INSTALLING: Mutex<()> = Mutex::const_new(());

/// Python with pyres, which is installed outside the tracked tree.
async fn python() -> Command {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pyres");
    let python = dev_folder().join("venv/bin/python");
    let packages = dev_folder().join("pyres");
    let _one_at_a_time = INSTALLING.lock().await;
    let wanted = std::fs::read(source.join("requirements.txt")).expect("a list of packages");
    // Written after pip has ended, so an installation that was interrupted is made again.
    let stamp = packages.join("installed.txt");
    if !std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        let _ = std::fs::remove_dir_all(&packages);
        let pip = Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(&packages)
            .args(["-r", "requirements.txt"])
            .current_dir(&source)
            .output()
            .await
            .expect("a Python is installed by `make setup`");
        let errors = String::from_utf8_lossy(&pip.stderr);
        assert!(pip.status.success(), "pip install: {errors}");
        std::fs::write(&stamp, wanted).expect("a stamp");
    }
    let mut command = Command::new(python);
    command
        .arg("peer.py")
        .env("PYTHONPATH", packages)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(source);
    command
}

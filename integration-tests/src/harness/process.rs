//! Services as processes.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::{Child, Command};

/// The path of a binary of this workspace, beside the test's own.
pub fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("the path of this test");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make build`, or `make test`",
        path.display()
    );
    path
}

/// A running service, killed when it is dropped.
pub struct ServiceProcess {
    /// Its name.
    pub name: String,
    child: Child,
    log: PathBuf,
    /// How long its log was when it began: all of one name write to one file.
    log_begins: u64,
}

impl ServiceProcess {
    /// Starts a service; its log goes to `folder/NAME.log`.
    pub fn start(
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
        folder: &Path,
    ) -> ServiceProcess {
        Self::start_program(&binary(name), name, arguments, environment, folder)
    }

    /// As [`start`](Self::start), of another build.
    pub(super) fn start_program(
        program: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(String, String)],
        folder: &Path,
    ) -> ServiceProcess {
        let log = folder.join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let log_begins = file.metadata().expect("the log file's length").len();
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} did not start: {error}"));
        ServiceProcess {
            name: name.to_owned(),
            child,
            log,
            log_begins,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// Whether it stands still after a SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        let stat = self
            .child
            .id()
            .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
        // "PID (NAME) STATE …": a name may hold anything.
        stat.is_some_and(|stat| {
            stat.rsplit_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a process to kill");
    }

    /// Sends a signal by name, such as `TERM`.
    pub async fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(self.pid().to_string())
            .status()
            .await;
        assert!(status.expect("kill").success(), "SIG{signal} to {}", self.name);
    }

    /// Waits for the end; its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(super::PATIENCE, self.child.wait())
            .await
            .expect("the process to end")
            .expect("a status")
            .code()
    }

    /// Whether it has ended, and its exit code, which a signal leaves out.
    pub fn ended_already(&mut self) -> Option<Option<i32>> {
        let status = self.child.try_wait().expect("a status")?;
        Some(status.code())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What was logged since it began: by itself, and by others of its name that began later.
    pub(super) fn log_since_it_began(&self) -> String {
        let begins = usize::try_from(self.log_begins).expect("a length");
        self.log().get(begins..).unwrap_or_default().to_owned()
    }
}

/// Runs a binary of this workspace to its end.
pub async fn run(name: &str, arguments: &[&str], environment: &[(String, String)]) -> Output {
    run_program(&binary(name), arguments, environment).await
}

/// As [`run`], of any program.
pub(super) async fn run_program(
    program: &Path,
    arguments: &[&str],
    environment: &[(String, String)],
) -> Output {
    let run = Command::new(program)
        .args(arguments)
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(super::PATIENCE, run)
        .await
        .expect("it to end")
        .expect("it to start")
}

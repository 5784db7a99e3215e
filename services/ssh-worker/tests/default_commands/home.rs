//! A login's home with a gatewayd in it, and a shell there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gatewayzen_bootstrap::settings;
use ssh_worker::remote::{self, Command};

/// A login's home with a gatewayd in it.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) status: i32,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.gatewayd().join("config")).unwrap();
        home.write("package.json", r#"{"name":"gatewayd","version":"1.0.0"}"#);
        home
    }

    pub(crate) fn gatewayd(&self) -> PathBuf {
        self.0.path().join("gatewayd")
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.gatewayd().join(path), text).unwrap();
    }

    pub(crate) fn run(&self, command: Command, release: Option<&str>) -> Ran {
        let settings = settings::load(None).unwrap().gatewayd;
        let line = remote::line(&settings, command, 42, 1, release, Duration::from_secs(60));
        let output = self.shell(&line.text).output().unwrap();
        Ran {
            stdout: output.stdout,
            status: output.status.code().unwrap(),
        }
    }

    pub(crate) fn shell(&self, script: &str) -> std::process::Command {
        let mut shell = std::process::Command::new("sh");
        shell
            .args(["-c", script])
            .current_dir(self.0.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        shell
    }

    /// Makes gatewayd a git checkout with the tags v1.0.0 (in place) and v2.0.0, and a branch that is called v2.0.0 too.
    pub(crate) fn with_git(self) -> Self {
        let script = "cd gatewayd && mkdir logs && echo first >logs/log && g() { git -c user.name=t -c user.email=t@t \"$@\"; } && \
            g init -q -b master && g add . && g commit -q -m 1 && g tag v1.0.0 && sed -i s/1.0.0/2.0.0/ package.json && \
            g commit -q -a -m 2 && g tag -a -m 2 v2.0.0 && g branch v2.0.0 v1.0.0 && g checkout -q --detach refs/tags/v1.0.0";
        assert!(self.shell(script).status().unwrap().success());
        self
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

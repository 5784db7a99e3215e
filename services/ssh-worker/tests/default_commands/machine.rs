//! A machine's root as cloud-init left it, with an SSH server to reload.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use gatewayzen_bootstrap::settings;
use ssh_worker::parse;
use ssh_worker::remote::{self, Command};

use crate::home::Home;

/// Waits for a condition, for a limit that only a defect reaches.
pub(crate) fn soon(happens: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !happens() {
        assert!(std::time::Instant::now() < end, "it takes a minute already");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The files of a machine's root as cloud-init left them, and a shell in which the commands find them.
pub(crate) struct Machine {
    pub(crate) home: Home,
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
    pub(crate) fn new() -> Self {
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

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.home.0.path().join("root").join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Type and key of the host key that is in place.
    pub(crate) fn in_place(&self) -> String {
        let script = "ssh-keygen -y -f root/etc/ssh/ssh_host_ed25519_key | cut -d ' ' -f 1,2";
        let output = self.home.shell(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn run(&self, command: Command, variables: &[(&str, &str)]) -> (String, i32, String) {
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

    pub(crate) fn make(&self) -> String {
        let (stdout, status, errors) = self.run(Command::MakeHostKey, &[]);
        assert_eq!(status, 0, "{errors}");
        ssh_worker::identity::line(&parse::host_key(stdout.as_bytes()).unwrap())
    }

    pub(crate) fn install(&self, new: &str, before: &str) -> (String, i32, String) {
        let variables = [
            ("GATEWAYZEN_HOST_KEY", new),
            ("GATEWAYZEN_HOST_KEY_BEFORE", before),
        ];
        self.run(Command::InstallHostKey, &variables)
    }

    pub(crate) fn everything_under(&self, path: &str) -> String {
        let output = self
            .home
            .shell(&format!("grep -r '' {path} 2>/dev/null"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

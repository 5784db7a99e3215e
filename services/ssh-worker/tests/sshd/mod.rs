//! A real OpenSSH server on an address of the test's own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use gatewayzen_bootstrap::settings::{self, Settings};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use ssh_worker::command::{Broken, Output};
use ssh_worker::remote::{self, Line};
use ssh_worker::session::{ConnectError, Session, Ssh};

static HOSTS: AtomicU16 = AtomicU16::new(1);

pub fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

pub fn pem(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

/// Ends with the test, also where that fails.
pub struct Sshd {
    pub folder: tempfile::TempDir,
    pub address: String,
    pub settings: Settings,
    child: Child,
}

impl Sshd {
    /// With the host key 2, letting in the fleet key 1.
    pub fn start() -> Self {
        Self::letting_in(&key(1).public_key().to_openssh().unwrap())
    }

    pub fn letting_in(public_key: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            private(&path);
            path.display().to_string()
        };
        let host_key = file("host_key", &pem(&key(2)));
        let authorized = file("authorized_keys", public_key);
        std::fs::create_dir(folder.path().join("gatewayd")).unwrap();
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.63.{}.{number}", std::process::id() % 254 + 1);
        // Chosen by the system and free again: nobody else uses this address.
        let port = TcpListener::bind((address.as_str(), 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = file(
            "config",
            &format!(
                "ListenAddress {address}\nPort {port}\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\nPidFile none\n\
                 UsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            ),
        );
        if user() == "root" {
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &config])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need OpenSSH's server: deploy/dev/setup installs it");
        let mut log = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        assert!(
            log.any(|line| line.contains("Server listening")),
            "sshd does not listen; see {config}"
        );
        // The server must not meet a closed pipe.
        std::thread::spawn(move || log.for_each(drop));
        let mut settings = settings::load(None).unwrap();
        settings.ssh.user = user();
        settings.ssh.port = port;
        settings.ssh.connect_timeout = Duration::from_secs(5);
        settings.gatewayd.directory = folder.path().join("gatewayd").display().to_string();
        settings.gatewayd.state_directory = folder.path().join("state").display().to_string();
        Self {
            folder,
            address,
            settings,
            child,
        }
    }

    /// Sends a signal to the server, by its own id.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    pub async fn connect(&self) -> Session {
        self.connect_as(&key(1), key(2).public_key()).await.unwrap()
    }

    pub async fn connect_as(&self, fleet: &PrivateKey, host: &PublicKey) -> Result<Session, ConnectError> {
        let ssh = Ssh::new(&self.settings.ssh, pem(fleet).as_bytes()).unwrap();
        ssh.connect(&self.address, host, self.settings.ssh.connect_timeout)
            .await
    }

    /// A script as the steps run it: under the lock and a limit of the host.
    pub fn line(&self, script: &str, seconds: u64) -> Line {
        let mut settings = self.settings.gatewayd.clone();
        settings.commands.release = script.to_owned();
        remote::line(
            &settings,
            remote::Command::Release,
            42,
            1,
            None,
            Duration::from_secs(seconds),
        )
    }

    pub async fn run(&self, script: &str, seconds: u64) -> Result<Output, Broken> {
        self.connect().await.run(&self.line(script, seconds)).await
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Whatever a test stopped and could not end.
        if let Ok(text) = std::fs::read_to_string(self.folder.path().join("gatewayd/stopped")) {
            text.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .for_each(|id| signal(id, "KILL"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &id.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(sent.is_ok());
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn user() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

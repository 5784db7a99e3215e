//! One host: what is on its disk, what runs on it, and the ports that it opens.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::certificate::Certificate;
use super::commands::Outcome;
use super::config::Times;
use super::faults::FaultKind;
use super::gatewayd::Process;
use super::ledger::{Event, millis};
use super::{Shared, lock, network, ssh};

/// The tag that says which gatewayd an instance is for.
pub(super) const GATEWAYD_TAG: &str = "gatewayzen:gatewayd";

/// Exit status of a command that the host refuses because it has heard a later lease.
pub(super) const OVERTAKEN: u32 = 76;

/// One host.
pub(super) struct Host {
    pub(super) instance: String,
    /// The gatewayd's id, from the tag; empty without one.
    pub(super) gatewayd: String,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) gone: CancellationToken,
    pub(super) machine: Mutex<Machine>,
    /// Connections that have not logged in.
    pub(super) strangers: AtomicU32,
    running: Mutex<Running>,
    /// Commands run one at a time, as under the lock file of a real host.
    pub(super) command_lock: tokio::sync::Mutex<()>,
    /// The highest number of a lease that a command named, as in the lease file of a real host.
    heard: Mutex<i64>,
    /// The host key in its user data.
    launch_key: PrivateKey,
    random: Mutex<fastrand::Rng>,
}

/// What ends with a reboot, and how the SSH port is closed for a while.
struct Running {
    /// Everything that runs since the last boot.
    boot: CancellationToken,
    /// What is open at the SSH port; none while it is closed.
    open: Option<CancellationToken>,
    /// How long the port stays closed when `open` ends.
    away: Duration,
}

/// What is on the host.
pub(super) struct Machine {
    /// The release tag checked out.
    pub(super) release: String,
    /// gatewayd's configuration file.
    pub(super) saved: Settings,
    pub(super) certificate: Option<Arc<Certificate>>,
    pub(super) process: Option<Process>,
    pub(super) next_pid: u32,
    /// What new connections are shown.
    pub(super) host_key: PrivateKey,
    /// A host key that was made and not installed yet, or not erased where it was made.
    pub(super) made_host_key: Option<PrivateKey>,
    /// Whether copies of the user data were erased.
    pub(super) launch_key_erased: bool,
    /// The user's `authorized_keys`.
    pub(super) admits: Vec<PublicKey>,
}

/// gatewayd's configuration, as its file and again as a running process holds it.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) key: Option<String>,
    pub(super) domain: String,
    pub(super) cold_wallet: Option<String>,
}

impl Host {
    /// Keeps the number of a command's lease, as a real command line does before anything else.
    ///
    /// # Errors
    /// How the command ends, which then does nothing: it is of the past, or the disk has no room for the number.
    pub(super) fn hear(&self, lease: i64, shared: &Shared) -> Result<(), Outcome> {
        let mut heard = lock(&self.heard);
        if *heard > lease {
            let said = format!("lease {lease} is of the past: this host has heard lease {heard}\n");
            return Err(Outcome::failed(OVERTAKEN, said));
        }
        if *heard != lease && shared.faults.happens(&self.targets(), &FaultKind::DiskFull) {
            // The file can be made and its content not written, so the shell's `echo` fails.
            let said = "sh: line 3: echo: write error: No space left on device\n";
            return Err(Outcome::failed(1, said));
        }
        *heard = lease;
        Ok(())
    }

    pub(super) fn new(
        instance: String,
        gatewayd: String,
        address: Option<Ipv4Addr>,
        user_data: &str,
        release: &str,
        mut random: fastrand::Rng,
        gone: CancellationToken,
    ) -> Self {
        // As cloud-init does: without a key in the user data the host makes its own.
        let launch_key = host_key(user_data).unwrap_or_else(|| new_key(&mut random));
        let machine = Machine {
            release: release.to_owned(),
            saved: Settings {
                key: None,
                domain: "example.com".to_owned(),
                cold_wallet: None,
            },
            certificate: None,
            process: None,
            next_pid: random.u32(1000..30_000),
            host_key: launch_key.clone(),
            made_host_key: None,
            launch_key_erased: false,
            admits: Vec::new(),
        };
        Self {
            instance,
            gatewayd,
            address,
            strangers: AtomicU32::new(0),
            running: Mutex::new(Running {
                boot: gone.child_token(),
                open: None,
                away: Duration::ZERO,
            }),
            gone,
            machine: Mutex::new(machine),
            command_lock: tokio::sync::Mutex::default(),
            heard: Mutex::default(),
            launch_key,
            random: Mutex::new(random),
        }
    }

    /// What a fault may name this host by.
    pub(super) fn targets(&self) -> [&str; 2] {
        [&self.instance, &self.gatewayd]
    }

    /// A time with this host's jitter.
    pub(super) fn vary(&self, ms: u64, times: &Times) -> Duration {
        times.vary(ms, &mut lock(&self.random))
    }

    /// The host's own SSH key, or that of its user data, or another one.
    pub(super) fn ssh_key(&self, wrong: bool, of_launch: bool) -> PrivateKey {
        if wrong {
            self.new_ssh_key()
        } else if of_launch {
            self.launch_key.clone()
        } else {
            lock(&self.machine).host_key.clone()
        }
    }

    /// A new SSH host key.
    pub(super) fn new_ssh_key(&self) -> PrivateKey {
        new_key(&mut lock(&self.random))
    }

    /// The key of its user data, in OpenSSH's format.
    pub(super) fn launch_key(&self) -> String {
        let text = self.launch_key.to_openssh(LineEnding::LF);
        text.map(|text| text.to_string()).unwrap_or_default()
    }

    /// A new gatewayd API key.
    pub(super) fn new_api_key(&self) -> String {
        let mut bytes = [0; 32];
        lock(&self.random).fill(&mut bytes);
        hex::encode(bytes)
    }

    /// What ends with everything that runs on the host since its last boot.
    pub(super) fn boot(&self) -> CancellationToken {
        lock(&self.running).boot.clone()
    }

    /// Closes the SSH port for so long, and cuts what is open there. False: it is closed already.
    pub(super) fn close_for(&self, away: Duration) -> bool {
        let mut running = lock(&self.running);
        running.away = away;
        let open = running.open.take();
        if let Some(open) = &open {
            open.cancel();
        }
        open.is_some()
    }

    /// Ends whatever runs, and SSH for a while. The disk stays. False: SSH is not up.
    pub(super) fn reboot(&self, shared: &Shared) -> bool {
        let times = &shared.config.times;
        // One lock after the other: the machine's lock is held while processes are made, under this boot.
        if self.gone.is_cancelled() || !self.close_for(self.vary(times.reboot_ms, times)) {
            return false;
        }
        shared.record(self, Event::Rebooted);
        let mut machine = lock(&self.machine);
        let mut running = lock(&self.running);
        running.boot.cancel();
        running.boot = self.gone.child_token();
        if let Some(address) = machine
            .process
            .take()
            .and_then(|process| process.unsaved(&machine))
        {
            shared.record(self, Event::WalletForgotten { address });
        }
        true
    }

    /// Opens the SSH port and answers there until the host is gone.
    pub(super) async fn up(self: Arc<Self>, shared: Arc<Shared>, launched: Instant) {
        let mut first = true;
        while let Some(listener) = self.listen(shared.config.ssh_port).await {
            let open = self.gone.child_token();
            lock(&self.running).open = Some(open.clone());
            if std::mem::take(&mut first) {
                let boot_ms = millis(launched.elapsed());
                shared.record(&self, Event::HostUp { boot_ms });
            }
            network::serve(listener, &open, |line| {
                ssh::connection(line, self.clone(), shared.clone())
            })
            .await;
            if self.gone.is_cancelled() {
                return;
            }
            let away = lock(&self.running).away;
            tokio::time::sleep(away).await;
        }
    }

    /// Opens a port at the host's address.
    pub(super) async fn listen(&self, port: u16) -> Option<TcpListener> {
        let address = self.address?;
        match TcpListener::bind((address, port)).await {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!(%address, port, %error, "a simulated host cannot open its port");
                None
            }
        }
    }
}

fn new_key(random: &mut fastrand::Rng) -> PrivateKey {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

/// The key that cloud-init would install: the block scalar `ed25519_private` under `ssh_keys`.
fn host_key(user_data: &str) -> Option<PrivateKey> {
    let text = String::from_utf8(BASE64_STANDARD.decode(user_data).ok()?).ok()?;
    if !text.starts_with("#cloud-config") {
        return None;
    }
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| *line != "ssh_keys:");
    let opening = lines.find(|line| line.trim() == "ed25519_private: |")?;
    let block = lines.take_while(|line| indent(line) > indent(opening));
    let key: String = block.map(|line| format!("{}\n", line.trim())).collect();
    PrivateKey::from_openssh(key).ok()
}

//! The simulated fleet: EC2, the hosts and their gatewayds in one process, on real loopback sockets with
//! real protocols (EC2 Query API over HTTP, SSH, HTTPS). It is for faults and scale; it never stands in
//! for the real walk.
//!
//! Each instance is a host at its own address of a network of loopback (or, in containers, of a private one): SSH on port 2222 once it is up, gatewayd on
//! port 5000 while that runs. The SSH server knows no shell: a command line says what it is by assigning
//! `GATEWAYZEN_COMMAND`. Whatever truly happens is in the [`Ledger`]; what goes wrong is told by [`Fault`]s.

mod by_hand;
mod certificate;
mod commands;
mod config;
mod ec2;
mod faults;
mod form;
mod gatewayd;
mod host;
mod identity;
mod instance;
mod launch;
mod ledger;
mod network;
mod ssh;
#[cfg(test)]
mod tests;
mod throttle;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::keys::PublicKey;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use certificate::Certificate;
pub use commands::commit_of;
pub use config::{Config, DEFAULT_IMAGE, MaxStartups, Times};
pub use faults::{Fault, FaultKind};
pub use ledger::{Entry, Event, Ledger, SimulatedTime};
pub use throttle::{Bucket, Throttle};

use ec2::Ec2;
use faults::Faults;
use host::Host;
use network::Network;

/// A running simulated fleet. Dropping it ends it, with every host.
pub struct SimulatedFleet {
    shared: Arc<Shared>,
    ec2: Arc<Ec2>,
    address: SocketAddr,
    _stop: DropGuard,
}

/// What every part of the fleet needs.
struct Shared {
    config: Config,
    fleet_key: PublicKey,
    faults: Faults,
    ledger: Ledger,
    /// Command lines of all hosts, where they are kept.
    lines: Mutex<Vec<String>>,
    stop: CancellationToken,
}

impl Shared {
    fn heard(&self, line: &str) {
        if self.config.keep_commands {
            lock(&self.lines).push(line.to_owned());
        }
    }

    fn record(&self, host: &Host, event: Event) {
        self.ledger.record(&host.gatewayd, &host.instance, event);
    }
}

/// A disk of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Under which name it is attached.
    pub device: String,
    /// Whether EC2 was asked to encrypt it.
    pub encrypted: bool,
}

/// A host as it truly is. It shows the secrets of the simulation, so that a test can look for them elsewhere.
#[derive(Clone, Debug, Serialize)]
pub struct HostView {
    /// The EC2 instance id.
    pub instance: String,
    /// The gatewayd's id, from the tag.
    pub gatewayd: String,
    /// EC2's name for the instance's state.
    pub state: &'static str,
    /// Its disks.
    pub disks: Vec<Disk>,
    /// Whether its metadata can be had without a session token: `required` or `optional`.
    pub metadata_tokens: String,
    /// The host's address; none for an instance that never gets one.
    pub address: Option<Ipv4Addr>,
    /// The release tag in place.
    pub release: String,
    /// The fingerprint of its SSH host key.
    pub host_key: String,
    /// Whether the host key of its user data was erased there.
    pub launch_key_erased: bool,
    /// The fingerprints of the SSH keys that its login user lets in.
    pub admits: Vec<String>,
    /// gatewayd's API key, once it is made.
    pub api_key: Option<String>,
    /// SHA-256 of the host's certificate (DER), in hex, once it is made.
    pub certificate: Option<String>,
    /// The private key of that certificate (PKCS#8, DER), in hex.
    pub tls_key: Option<String>,
    /// The private SSH key that the host was launched with, in OpenSSH's format.
    pub ssh_key: String,
    /// The cold wallet in gatewayd's file.
    pub saved_wallet: Option<String>,
    /// The cold wallet that the running gatewayd holds.
    pub running_wallet: Option<String>,
    /// gatewayd's processes.
    pub pids: Vec<u32>,
}

impl SimulatedFleet {
    /// Starts a fleet.
    ///
    /// # Errors
    /// When the fleet's public key is not an OpenSSH public key, when the network is not one of loopback or private addresses or is taken, and when the
    /// EC2 endpoint cannot listen.
    pub async fn start(config: Config) -> io::Result<Self> {
        let fleet_key = PublicKey::from_openssh(config.fleet_public_key.trim()).map_err(|error| {
            io::Error::other(format!(
                "the fleet's public key is not an OpenSSH public key: {error}"
            ))
        })?;
        let network = Network::claim(config.network.as_deref(), config.ssh_port).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| io::Error::other(format!("cannot listen on {}: {error}", config.listen)))?;
        let address = listener.local_addr()?;
        let faults = Faults::new(config.faults.clone(), config.seed);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            config,
            fleet_key,
            faults,
            ledger: Ledger::new(),
            lines: Mutex::default(),
            stop: stop.clone(),
        });
        let ec2 = Arc::new(Ec2::new(shared.clone(), network));
        let fleet = Self {
            shared,
            ec2: ec2.clone(),
            address,
            _stop: stop.clone().drop_guard(),
        };
        tokio::spawn(async move {
            let connection = |line| {
                let ec2 = ec2.clone();
                async move { network::http(line, |request| by_hand::answer(request, &ec2)).await }
            };
            network::serve(listener, &stop, connection).await;
        });
        Ok(fleet)
    }

    /// The EC2 endpoint, for `AWS_ENDPOINT_URL`; what is done by hand is below `/_sim` there.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The network of the hosts, such as `127.80.0.0/16`.
    #[must_use]
    pub fn network(&self) -> String {
        self.ec2.network().to_string()
    }

    /// What truly happened.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The rights that EC2 was asked for so far, by its names of actions.
    #[must_use]
    pub fn ec2_calls(&self) -> BTreeSet<String> {
        self.ec2.calls()
    }

    /// Every command line that a host was sent, with [`Config::keep_commands`].
    #[must_use]
    pub fn command_lines(&self) -> Vec<String> {
        lock(&self.shared.lines).clone()
    }

    /// Puts a fault in force.
    pub fn fault(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// Ends every fault.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Launches a machine with these tags, as somebody else than GatewayZen might; its instance id.
    ///
    /// # Errors
    /// The network has no address left.
    pub fn launch(&self, tags: &[(&str, &str)]) -> io::Result<String> {
        let launched = self.ec2.launch_stray(tags);
        launched.map_err(|refusal| io::Error::other(refusal.to_string()))
    }

    /// How often each kind of fault has happened, those of [`kill`](Self::kill) and
    /// [`reboot`](Self::reboot) included.
    #[must_use]
    pub fn faults_happened(&self) -> BTreeMap<String, u64> {
        self.shared.faults.happened()
    }

    /// Reboots a host whose SSH answers. False: there is none of this id, or its SSH does not.
    pub fn reboot(&self, id: &str) -> bool {
        self.ec2.reboot(id)
    }

    /// Gives a host another SSH host key, as somebody does by hand; its fingerprint. `None`: there is none of this id.
    pub fn rekey(&self, id: &str) -> Option<String> {
        let instance = self.ec2.instance(id)?;
        let key = instance.host.new_ssh_key();
        let fingerprint = identity::fingerprint(key.public_key());
        lock(&instance.host.machine).host_key = key;
        Some(fingerprint)
    }

    /// EC2 ends an instance by itself, as when its hardware fails. False: there is none of this id, or its end has come or
    /// been asked for already.
    pub fn kill(&self, id: &str) -> bool {
        self.ec2.kill(id)
    }

    /// The hosts as they truly are, in the order of their launches.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostView> {
        hosts(&self.ec2)
    }
}

fn hosts(ec2: &Ec2) -> Vec<HostView> {
    let view = |instance: Arc<instance::Instance>| {
        let machine = lock(&instance.host.machine);
        HostView {
            instance: instance.id.clone(),
            gatewayd: instance.host.gatewayd.clone(),
            state: instance.state().name(),
            disks: instance.disks.clone(),
            metadata_tokens: instance.metadata_tokens.clone(),
            address: instance.address,
            release: machine.release.clone(),
            host_key: identity::fingerprint(machine.host_key.public_key()),
            launch_key_erased: machine.launch_key_erased,
            admits: machine.admits.iter().map(identity::fingerprint).collect(),
            api_key: machine.saved.key.clone(),
            certificate: machine.certificate.as_ref().map(|made| made.fingerprint.clone()),
            tls_key: machine.certificate.as_ref().map(|made| hex::encode(&made.key)),
            ssh_key: instance.host.launch_key(),
            saved_wallet: machine.saved.cold_wallet.clone(),
            running_wallet: machine
                .process
                .as_ref()
                .and_then(|process| lock(&process.memory).cold_wallet.clone()),
            pids: machine
                .process
                .iter()
                .flat_map(|process| process.pids())
                .collect(),
        }
    };
    ec2.instances().into_iter().map(view).collect()
}

/// The lock, also after a panic of another holder: what is behind these locks stays whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! What a simulated fleet is told: where it listens, how long things take, what goes wrong.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::faults::Fault;
use super::throttle::Throttle;

/// The golden AMI of the default configuration; its release is `v3.33.0`.
pub const DEFAULT_IMAGE: &str = "ami-0000000000000001";

/// The configuration of a simulated fleet. Every field has a default except the fleet's public key.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the EC2 Query API and `/_sim` listen. Port 0 chooses a free one.
    pub listen: SocketAddr,
    /// The hosts' network, such as `127.80.0.0/16`, or only its size: `/16` is a free one of 127.2.0.0 to 127.63.0.0.
    /// Absent: a free /24 of 127.128.0.0/9.
    pub network: Option<String>,
    /// The public key that the hosts admit, as one OpenSSH line.
    pub fleet_public_key: String,
    /// The user that the hosts admit.
    pub ssh_user: String,
    /// The AWS access key that the EC2 API admits. Signatures are not checked.
    pub access_key_id: String,
    /// Seeds ids, keys, jitter and the dice of faults: with the same seed the same calls, one after the other, get the same.
    /// Excepted are TLS certificates and the keys of connections, which the system's random source draws; a network that is not
    /// named, since fleets of one seed run side by side; and whatever hangs on time, which is real: of what happens at once on
    /// a host, or meets the dice at once, the clock says which draws first.
    pub seed: u64,
    /// The AMIs that exist, each with the release of gatewayd that it holds.
    pub images: BTreeMap<String, String>,
    /// The release tags that a `checkout` can find, besides those of the AMIs.
    pub releases: Vec<String>,
    /// The port of each host's SSH server.
    pub ssh_port: u16,
    /// The port of each host's gatewayd.
    pub api_port: u16,
    /// Whether gatewayd answers a second cold wallet by closing the connection (as on Node 0.10)
    /// in place of a 500 with a stack trace.
    pub second_wallet_closes: bool,
    /// The account's limits on EC2 calls. Absent: none.
    pub throttle: Option<Throttle>,
    /// How a host's SSH server drops connections of which too many have not logged in. Absent: it never does.
    pub max_startups: Option<MaxStartups>,
    /// Whether the command lines that hosts are sent are kept, for a test that looks for secrets in them.
    pub keep_commands: bool,
    /// How long things take.
    pub times: Times,
    /// The faults in force from the start.
    pub faults: Vec<Fault>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            network: None,
            fleet_public_key: String::new(),
            ssh_user: "ubuntu".to_owned(),
            access_key_id: "simulated".to_owned(),
            seed: 1,
            images: BTreeMap::from([(DEFAULT_IMAGE.to_owned(), "v3.33.0".to_owned())]),
            releases: vec!["v3.34.2".to_owned()],
            ssh_port: 2222,
            api_port: 5000,
            second_wallet_closes: false,
            throttle: None,
            max_startups: None,
            keep_commands: false,
            times: Times::default(),
            faults: Vec::new(),
        }
    }
}

/// OpenSSH's `MaxStartups`, random early drop.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxStartups {
    /// So many connections that have not logged in are always let through.
    pub start: u32,
    /// How likely the next one is dropped, 0 to 1; it grows from there to 1 at `full`.
    pub rate: f64,
    /// From so many on every one is dropped.
    pub full: u32,
}

impl Default for MaxStartups {
    fn default() -> Self {
        Self {
            start: 10,
            rate: 0.3,
            full: 100,
        }
    }
}

impl MaxStartups {
    /// How likely a connection is dropped that finds so many others not logged in.
    pub(super) fn drops(&self, others: u32) -> f64 {
        if others < self.start {
            0.0
        } else if others >= self.full {
            1.0
        } else {
            let share = f64::from(others - self.start) / f64::from(self.full - self.start);
            self.rate + (1.0 - self.rate) * share
        }
    }
}

/// How long things take, in milliseconds. The defaults are short, for tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// From the launch to `running`.
    pub boot_ms: u64,
    /// From `running` until SSH answers.
    pub ssh_ms: u64,
    /// From `shutting-down` to `terminated`.
    pub terminate_ms: u64,
    /// How long a terminated instance stays visible.
    pub terminated_visible_ms: u64,
    /// How long a new instance's id is not found.
    pub id_lag_ms: u64,
    /// How long a new instance shows no tags.
    pub tag_lag_ms: u64,
    /// A remote command that `commands_ms` does not name.
    pub command_ms: u64,
    /// Remote commands by name.
    pub commands_ms: BTreeMap<String, u64>,
    /// From the end of the `start` command until HTTPS answers.
    pub start_ms: u64,
    /// How long a host that reboots is away.
    pub reboot_ms: u64,
    /// How long a remote command waits for the lock of its host before it exits 75.
    pub lock_wait_ms: u64,
    /// Every time of a host varies by up to this share of itself, both ways (0 to 1).
    pub jitter: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            boot_ms: 200,
            ssh_ms: 100,
            terminate_ms: 100,
            terminated_visible_ms: 3_600_000,
            id_lag_ms: 0,
            tag_lag_ms: 0,
            command_ms: 20,
            commands_ms: BTreeMap::new(),
            start_ms: 100,
            reboot_ms: 300,
            lock_wait_ms: 10_000,
            jitter: 0.0,
        }
    }
}

impl Times {
    /// The time of one remote command, before jitter.
    pub(super) fn command(&self, name: &str) -> u64 {
        self.commands_ms.get(name).copied().unwrap_or(self.command_ms)
    }

    /// A time with its jitter.
    pub(super) fn vary(&self, ms: u64, random: &mut fastrand::Rng) -> Duration {
        let share = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * random.f64() - 1.0);
        Duration::from_millis(ms).mul_f64(share)
    }
}

//! What truly happened, whatever anybody was told.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::watch;

use super::lock;

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Milliseconds since the fleet's start, by a monotonic clock.
    pub at_ms: u64,
    /// The gatewayd's id, from the instance's tag; empty for an instance without one.
    pub gatewayd: String,
    /// The instance.
    pub instance: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. No event holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields say themselves")]
pub enum Event {
    /// A machine was made.
    Launched {
        token: String,
        image: String,
        tags: BTreeMap<String, String>,
    },
    /// The same launch was asked for again; no machine was made.
    LaunchRepeated { token: String },
    /// EC2 says `running`.
    Running,
    /// EC2 ended it by itself, while pending or later.
    Died,
    /// SSH answers, so long after the launch.
    HostUp { boot_ms: u64 },
    /// The host rebooted: its processes are gone, and SSH is away for a while.
    Rebooted,
    /// Somebody asked for its end (each time is recorded).
    TerminateAsked,
    /// EC2 says `terminated`.
    Terminated,
    /// A remote command ended; `waited`: another one held the host's lock when it came; `took_ms` leaves out that wait.
    Command {
        name: String,
        waited: bool,
        took_ms: u64,
        exit: u32,
    },
    /// A remote command was refused: the host has heard a later lease.
    CommandRefused { name: String },
    /// The host's SSH server has another host key from now on.
    HostKeyInstalled { fingerprint: String },
    /// The host's copies of its user data, and the host key in it, were erased.
    LaunchKeyErased,
    /// The login user lets another SSH key in.
    LoginKeyAdded { fingerprint: String },
    /// The login user lets an SSH key in no more.
    LoginKeyRemoved { fingerprint: String },
    /// gatewayd's API key was made.
    KeyMade,
    /// The host's TLS certificate was made; the SHA-256 of its DER.
    CertificateMade { fingerprint: String },
    /// The release in place changed.
    ReleaseChanged { from: String, to: String },
    /// gatewayd's processes started.
    Started { pid: u32 },
    /// gatewayd answers HTTPS, so long after the `start` command ended.
    Listening { pid: u32, after_ms: u64 },
    /// gatewayd's processes ended.
    Stopped { pid: u32 },
    /// A running gatewayd took a cold wallet, in its memory.
    WalletSet { address: String },
    /// A running gatewayd wrote its cold wallet to its file.
    WalletSaved { address: String },
    /// gatewayd ended with a cold wallet that was never saved.
    WalletForgotten { address: String },
}

/// The time that the simulation itself took for one gatewayd: what is left of a walk's time is GatewayZen's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SimulatedTime {
    /// From launch to an answering SSH, in milliseconds.
    pub boot_ms: u64,
    /// The remote commands, in milliseconds.
    pub command_ms: u64,
    /// From the ends of `start` commands to an answering HTTPS, in milliseconds.
    pub start_ms: u64,
}

impl SimulatedTime {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_millis(self.boot_ms + self.command_ms + self.start_ms)
    }
}

/// The record of a fleet.
pub struct Ledger {
    started: Instant,
    started_unix_ms: u64,
    entries: Mutex<Vec<Entry>>,
    length: watch::Sender<usize>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_unix_ms: millis(unix),
            entries: Mutex::default(),
            length: watch::Sender::new(0),
        }
    }

    pub(super) fn record(&self, gatewayd: &str, instance: &str, event: Event) {
        tracing::debug!(gatewayd, instance, ?event, "simulated");
        let mut entries = lock(&self.entries);
        // Taken under the lock, so that the entries stand in the order of their times.
        let at_ms = millis(self.started.elapsed());
        entries.push(Entry {
            at_ms,
            gatewayd: gatewayd.to_owned(),
            instance: instance.to_owned(),
            event,
        });
        let length = entries.len();
        self.length.send_modify(|known| *known = length);
    }

    /// Everything so far, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.entries).clone()
    }

    /// How often something happened.
    #[must_use]
    pub fn count(&self, matches: impl Fn(&Entry) -> bool) -> usize {
        lock(&self.entries).iter().filter(|entry| matches(entry)).count()
    }

    /// The first entry that matches, now or as soon as it happens. The caller sets the limit.
    pub async fn wait_for(&self, matches: impl Fn(&Entry) -> bool) -> Entry {
        let mut length = self.length.subscribe();
        let mut seen = 0;
        loop {
            let now = *length.borrow_and_update();
            let found = lock(&self.entries)[seen..now]
                .iter()
                .find(|entry| matches(entry))
                .cloned();
            if let Some(entry) = found {
                return entry;
            }
            seen = now;
            if length.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The simulation's own time for each gatewayd.
    #[must_use]
    pub fn simulated_times(&self) -> BTreeMap<String, SimulatedTime> {
        let mut times = BTreeMap::<String, SimulatedTime>::new();
        for entry in lock(&self.entries).iter() {
            let time = times.entry(entry.gatewayd.clone()).or_default();
            match &entry.event {
                Event::HostUp { boot_ms } => time.boot_ms += boot_ms,
                Event::Command { took_ms, .. } => time.command_ms += took_ms,
                Event::Listening { after_ms, .. } => time.start_ms += after_ms,
                _ => {}
            }
        }
        times
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "simulated": true,
            "started_unix_ms": self.started_unix_ms,
            "entries": self.entries(),
            "times": self.simulated_times(),
        })
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

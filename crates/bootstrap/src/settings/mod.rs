//! Every setting of every service. `defaults.toml` beside this crate says what each means and its default.

mod duration;
mod error;
mod fleet;
mod known;
mod load;
mod validate;

use std::collections::BTreeMap;
use std::time::Duration;

use gatewayzen_core::State;
use secrecy::SecretString;
use serde::Deserialize;

pub use error::ConfigError;
pub use fleet::{ConnectVia, Ec2, Gatewayd, GatewaydCommands, Hosts, Ssh, Wallet, WalletKeyType};
pub use load::{DEFAULTS, load};

/// All settings, of all services: one file serves a whole deployment.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database.
    pub postgres: Postgres,
    /// The queues.
    pub redis: Redis,
    /// The keys that seal secrets.
    pub secrets: Secrets,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The health endpoint.
    pub health: Health,
    /// What all workers share.
    pub worker: Worker,
    /// How long a row may stay in a state.
    pub deadlines: Deadlines,
    /// The dispatcher.
    pub dispatcher: Dispatcher,
    /// Comparing machines with rows.
    pub sweep: Sweep,
    /// When the fleet is halted.
    pub fault_budget: FaultBudget,
    /// Launching machines.
    pub ec2: Ec2,
    /// Reaching machines.
    pub hosts: Hosts,
    /// Logging in to them.
    pub ssh: Ssh,
    /// gatewayd on them.
    pub gatewayd: Gatewayd,
    /// Cold wallets.
    pub wallet: Wallet,
    /// What only tests set.
    pub testing: Testing,
}

/// Where the rows are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Postgres {
    pub url: SecretString,
    pub max_connections: u32,
    #[serde(deserialize_with = "duration::read")]
    pub acquire_timeout: Duration,
}

/// Where the queues are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Redis {
    pub url: SecretString,
    pub namespace: String,
}

/// Where the sealing keys are.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Secrets {
    pub key_file: String,
    pub keys: SecretString,
    pub wallet_key_file: String,
    pub wallet_keys: SecretString,
    pub unwrap_command: Vec<String>,
    #[serde(deserialize_with = "duration::read")]
    pub unwrap_timeout: Duration,
    pub backup_key_file: String,
    pub backup_keys: SecretString,
    pub wallet_copies: String,
    pub wallet_copy_command: Vec<String>,
    #[serde(deserialize_with = "duration::read")]
    pub wallet_copy_timeout: Duration,
}

/// Logs and traces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Telemetry {
    pub log_format: LogFormat,
    pub log: String,
    pub otlp_endpoint: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogFormat {
    Text,
    Json,
}

/// The health endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Health {
    pub listen: String,
}

/// What all workers share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Worker {
    pub queues: Vec<String>,
    pub slots: usize,
    #[serde(deserialize_with = "duration::read")]
    pub lease: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub look_again: Duration,
    pub max_attempts: u32,
    #[serde(deserialize_with = "duration::read")]
    pub backoff_first: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub backoff_longest: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub pause: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub step_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub drain: Duration,
}

/// How long a row may stay in each working state.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "one for each working state")]
pub struct Deadlines {
    #[serde(deserialize_with = "duration::read")]
    pub instance: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub key: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub start: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub wallet: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub stop: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub update: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub terminate: Duration,
}

impl Deadlines {
    /// The deadline of a state; `None` for an idle one.
    pub fn of(&self, state: State) -> Option<Duration> {
        match state {
            State::Instance => Some(self.instance),
            State::Key => Some(self.key),
            State::Start => Some(self.start),
            State::Wallet => Some(self.wallet),
            State::Stop => Some(self.stop),
            State::Update => Some(self.update),
            State::Terminate => Some(self.terminate),
            State::New | State::Live | State::Stopped | State::Terminated => None,
        }
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<State, Duration> {
        State::ALL
            .into_iter()
            .filter_map(|state| Some((state, self.of(state)?)))
            .collect()
    }
}

/// What only tests set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Testing {
    pub stop_at: Vec<String>,
}

/// The dispatcher.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Dispatcher {
    #[serde(deserialize_with = "duration::read")]
    pub period: Duration,
    pub batch: u32,
}

/// Comparing the machines that EC2 shows with the rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Sweep {
    #[serde(deserialize_with = "duration::read")]
    pub every: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub grace: Duration,
    pub most: u32,
    pub most_share: f64,
}

impl Sweep {
    /// How many machines one sweep may end, of a fleet of so many.
    pub fn cap(&self, machines: usize) -> u32 {
        let share = (machines as f64 * self.most_share).floor() as u32;
        self.most.min(share.max(1))
    }
}

/// When too much of the fleet turns faulty at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct FaultBudget {
    pub share: f64,
    pub least: u32,
    #[serde(deserialize_with = "duration::read")]
    pub window: Duration,
}

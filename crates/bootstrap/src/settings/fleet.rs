//! Settings of the machines: how they are launched, reached and commanded.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::duration;

/// Launching machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Ec2 {
    pub region: String,
    pub ami: String,
    pub allowed_amis: Vec<String>,
    pub instance_type: String,
    pub allowed_instance_types: Vec<String>,
    pub subnet: String,
    pub security_groups: Vec<String>,
    pub key_name: String,
    pub instance_profile: String,
    #[serde(deserialize_with = "duration::read")]
    pub poll: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub send_for: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub consistency_window: Duration,
    pub launches_at_once: u32,
    pub releases: BTreeMap<String, String>,
}

/// Reaching machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Hosts {
    pub connect_via: ConnectVia,
}

/// Which address is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum ConnectVia {
    Private,
    Public,
}

impl ConnectVia {
    /// The address of a row to dial.
    pub fn address(self, row: &gatewayzen_core::Gatewayd) -> Option<&str> {
        match self {
            ConnectVia::Private => row.private_address.as_deref(),
            ConnectVia::Public => row.public_address.as_deref(),
        }
    }

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            ConnectVia::Private => "private",
            ConnectVia::Public => "public",
        }
    }
}

/// Logging in to machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Ssh {
    pub user: String,
    pub port: u16,
    pub key_file: String,
    #[serde(deserialize_with = "duration::read")]
    pub connect_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub keepalive: Duration,
    pub sessions_per_host: usize,
    #[serde(deserialize_with = "duration::read")]
    pub boot_grace: Duration,
    pub output_limit: usize,
}

/// gatewayd on the machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Gatewayd {
    pub directory: String,
    pub state_directory: String,
    pub https_port: u16,
    #[serde(deserialize_with = "duration::read")]
    pub request_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub start_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub stop_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub command_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub update_timeout: Duration,
    #[serde(deserialize_with = "duration::read")]
    pub lock_timeout: Duration,
    pub backup_command: String,
    #[serde(deserialize_with = "duration::read")]
    pub backup_timeout: Duration,
    pub commands: GatewaydCommands,
}

/// What runs on a host, each by `sh -c` in gatewayd's directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct GatewaydCommands {
    pub get_key: String,
    pub tls: String,
    pub release: String,
    pub saved_wallet: String,
    pub processes: String,
    pub start: String,
    pub stop: String,
    pub fetch: String,
    pub checkout: String,
    pub install: String,
    pub migrate: String,
}

/// Cold wallets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each key")]
pub struct Wallet {
    pub key_type: WalletKeyType,
    pub api_user: String,
}

/// Which curve a new wallet uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum WalletKeyType {
    Secp256k1,
    Ed25519,
}

//! A fleet of simulated machines for one test.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey};

use super::Database;
use super::stand::{Stand, quoted, write_private};
use crate::simulated_fleet::{Config, DEFAULT_IMAGE, SimulatedFleet};

/// What a bed is made with.
#[derive(Default)]
pub struct Options {
    /// The simulated fleet; its public key and network are filled in.
    pub fleet: Config,
    /// More settings, as lines of TOML with dotted keys; they win over the bed's own.
    pub settings: String,
    /// The Redis to use; `None`: the development environment's.
    pub redis_url: Option<String>,
    /// The superuser's URL of the Postgres to use; `None`: the development environment's.
    pub postgres_url: Option<String>,
    /// The database; `None`: a new one in that Postgres, with this version's schema.
    pub database: Option<Database>,
}

/// A simulated fleet and what it stands on. Everything ends with it.
pub struct Bed {
    stand: Stand,
    /// The simulated machines.
    pub fleet: SimulatedFleet,
    /// Another SSH key, to which a test may have the fleet go over.
    pub next_key_file: PathBuf,
    /// The fingerprints of the fleet's SSH key and of that other one.
    pub fleet_keys: [String; 2],
    fleet_public_key: String,
}

impl Deref for Bed {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.stand
    }
}

impl DerefMut for Bed {
    fn deref_mut(&mut self) -> &mut Stand {
        &mut self.stand
    }
}

impl Bed {
    /// A simulated fleet of short times, and no service running.
    pub async fn new(options: Options) -> Bed {
        let database = match (options.database, &options.postgres_url) {
            (Some(database), _) => database,
            (None, Some(url)) => Database::on(url).await,
            (None, None) => Database::new().await,
        };
        let mut stand = Stand::new(database, options.redis_url);
        let (key_file, key) = new_key(&stand, "fleet_key");
        let (next_key_file, next_key) = new_key(&stand, "next_fleet_key");
        let fleet_public_key = key.to_openssh().expect("a public key");
        let fleet = SimulatedFleet::start(Config {
            fleet_public_key: fleet_public_key.clone(),
            ..options.fleet
        })
        .await
        .expect("the simulated fleet");
        stand.environment = vec![
            ("AWS_ENDPOINT_URL".into(), fleet.endpoint()),
            ("AWS_ACCESS_KEY_ID".into(), "simulated".into()),
            ("AWS_SECRET_ACCESS_KEY".into(), "simulated".into()),
            ("AWS_REGION".into(), "us-east-1".into()),
            ("AWS_EC2_METADATA_DISABLED".into(), "true".into()),
        ];
        let key_file = quoted(&key_file.to_string_lossy());
        let machines = format!("{SHORT_TIMES}ec2.ami = \"{DEFAULT_IMAGE}\"\nssh.key_file = {key_file}\n");
        stand.configure(&machines, &options.settings);
        Bed {
            stand,
            fleet,
            next_key_file,
            fleet_keys: [key, next_key].map(|key| key.fingerprint(HashAlg::Sha256).to_string()),
            fleet_public_key,
        }
    }

    /// Every machine is gone at once, and services that start from here on work with the EC2 of another region, which has none.
    pub async fn lose_region(&mut self) {
        self.fleet = SimulatedFleet::start(Config {
            fleet_public_key: self.fleet_public_key.clone(),
            // Ids are drawn from it: no machine has the name of a lost one.
            seed: Config::default().seed + 1,
            ..Config::default()
        })
        .await
        .expect("the simulated fleet of another region");
        let endpoint = self.fleet.endpoint();
        for (name, value) in &mut self.environment {
            if name == "AWS_ENDPOINT_URL" {
                value.clone_from(&endpoint);
            }
        }
    }
}

/// Makes an SSH key, and its file.
fn new_key(stand: &Stand, name: &str) -> (PathBuf, PublicKey) {
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key");
    let file = stand.folder().join(name);
    write_private(&file, &key.to_openssh(LineEnding::LF).expect("a key"));
    (file, key.public_key().clone())
}

/// Settings for simulated machines, which do everything in a moment.
const SHORT_TIMES: &str = r#"
worker.lease = "2s"
worker.look_again = "1s"
worker.backoff_first = "100ms"
worker.backoff_longest = "500ms"
worker.pause = "500ms"
worker.max_attempts = 3
dispatcher.period = "500ms"
fault_budget.share = 1.0
ec2.instance_type = "t3.small"
ec2.subnet = "subnet-0000000000000001"
ec2.key_name = "fleet"
ec2.poll = "200ms"
ec2.consistency_window = "1s"
ssh.port = 2222
ssh.connect_timeout = "2s"
ssh.keepalive = "1s"
ssh.boot_grace = "20s"
gatewayd.command_timeout = "3s"
gatewayd.start_timeout = "3s"
gatewayd.stop_timeout = "2s"
gatewayd.request_timeout = "2s"
gatewayd.lock_timeout = "2s"
gatewayd.backup_command = "true"
gatewayd.backup_timeout = "3s"
"#;

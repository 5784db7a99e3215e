//! A fleet for one test: database, namespace, simulated machines, and the services that the test starts.

use std::path::PathBuf;

use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Gatewayd, Repository, State};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};
use serde_json::Value;
use tempfile::TempDir;

use super::{Database, ServiceProcess, dev_env, eventually, run};
use crate::simulated_fleet::{Config, DEFAULT_IMAGE, SimulatedFleet};

/// The four services.
const SERVICES: [&str; 4] = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"];

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
}

/// A fleet for one test. Everything ends with it.
pub struct Bed {
    /// The rows.
    pub database: Database,
    /// Reads rows; as the services' role.
    pub repository: Repository,
    /// The simulated machines.
    pub fleet: SimulatedFleet,
    /// What stands in `gatewayzen.toml`.
    pub config: PathBuf,
    /// For every process of this bed.
    pub environment: Vec<(String, String)>,
    /// Resque's namespace.
    pub namespace: String,
    /// The Redis.
    pub redis_url: String,
    folder: TempDir,
}

impl Bed {
    /// A bed with a simulated fleet of short times and no service running.
    pub async fn new(options: Options) -> Bed {
        let folder = tempfile::Builder::new()
            .prefix("gatewayzen-")
            .tempdir()
            .expect("a folder");
        let database = match &options.postgres_url {
            Some(url) => Database::on(url).await,
            None => Database::new().await,
        };
        let redis_url = options.redis_url.unwrap_or_else(|| dev_env("REDIS_URL"));
        let namespace = format!("test-{}", uuid::Uuid::new_v4().simple());
        let key = fleet_key();
        let key_file = folder.path().join("fleet_key");
        write_private(&key_file, &key.to_openssh(LineEnding::LF).expect("a key"));
        let ring_file = folder.path().join("sealing_keys");
        let line = KeyRing::generate_line("test").expect("randomness");
        write_private(&ring_file, line.expose_str().expect("text"));
        let fleet = SimulatedFleet::start(Config {
            fleet_public_key: key.public_key().to_openssh().expect("a public key"),
            ..options.fleet
        })
        .await
        .expect("the simulated fleet");
        let config = folder.path().join("gatewayzen.toml");
        let lines = settings(
            &database,
            &redis_url,
            &namespace,
            &key_file,
            &ring_file,
            &options.settings,
        );
        std::fs::write(&config, lines).expect("the configuration");
        let environment = vec![
            ("AWS_ENDPOINT_URL".into(), fleet.endpoint()),
            ("AWS_ACCESS_KEY_ID".into(), "simulated".into()),
            ("AWS_SECRET_ACCESS_KEY".into(), "simulated".into()),
            ("AWS_REGION".into(), "us-east-1".into()),
            ("AWS_EC2_METADATA_DISABLED".into(), "true".into()),
        ];
        let repository = database.repository("gatewayzen_service");
        Bed {
            database,
            repository,
            fleet,
            config,
            environment,
            namespace,
            redis_url,
            folder,
        }
    }

    /// Starts one service.
    pub fn start(&self, name: &str) -> ServiceProcess {
        self.start_with(name, &[])
    }

    /// Starts one service with more in its environment.
    pub fn start_with(&self, name: &str, more: &[(&str, &str)]) -> ServiceProcess {
        let config = self.config.to_str().expect("a path");
        let mut environment = self.environment.clone();
        environment.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        ServiceProcess::start(name, &["--config", config], &environment, self.folder.path())
    }

    /// Starts all four.
    pub fn start_all(&self) -> Vec<ServiceProcess> {
        SERVICES.iter().map(|name| self.start(name)).collect()
    }

    /// Creates a row in `instance` as an external application does; returns its id.
    pub async fn launch(&self, name: &str) -> i64 {
        sqlx::query_scalar("INSERT INTO gatewayds (name, state) VALUES ($1, 'instance') RETURNING id")
            .bind(name)
            .fetch_one(&self.database.app)
            .await
            .expect("a row")
    }

    /// Writes a row's state as an external application does.
    pub async fn write_state(&self, id: i64, state: State) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE gatewayds SET state = $2 WHERE id = $1")
            .bind(id)
            .bind(state.name())
            .execute(&self.database.app)
            .await
            .map(|_| ())
    }

    /// The row.
    pub async fn row(&self, id: i64) -> Gatewayd {
        self.repository
            .gatewayd(id)
            .await
            .expect("Postgres")
            .expect("the row")
    }

    /// Waits until the row is in a state. A fault on the way ends the test with its sentence.
    pub async fn reached(&self, id: i64, state: State) -> Gatewayd {
        eventually(&format!("row {id} to be {state}"), async || {
            let row = self.row(id).await;
            assert!(
                row.fault.is_none(),
                "row {id} is parked in {}: {}\n{}",
                row.state,
                row.fault.unwrap_or_default(),
                self.logs()
            );
            (row.state == state).then_some(row)
        })
        .await
    }

    /// Waits until the row is parked.
    pub async fn parked(&self, id: i64) -> Gatewayd {
        eventually(&format!("row {id} to be parked"), async || {
            let row = self.row(id).await;
            row.fault.is_some().then_some(row)
        })
        .await
    }

    /// Waits until the row shows an error, parked or not.
    pub async fn failing(&self, id: i64) -> Gatewayd {
        eventually(&format!("row {id} to show an error"), async || {
            let row = self.row(id).await;
            row.last_error.is_some().then_some(row)
        })
        .await
    }

    /// Runs the command line as an operator; standard output, and standard error and code when it fails.
    pub async fn gatewayzen(&self, arguments: &[&str]) -> Result<String, (i32, String)> {
        let config = self.config.to_str().expect("a path");
        let mut all = vec!["--config", config];
        all.extend_from_slice(arguments);
        let mut environment = self.environment.clone();
        environment.push((
            "GATEWAYZEN_POSTGRES__URL".into(),
            self.database.url("gatewayzen_operator"),
        ));
        let output = run("gatewayzen", &all, &environment).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.code() {
            Some(0) => Ok(text(&output.stdout)),
            code => Err((code.unwrap_or(-1), text(&output.stderr))),
        }
    }

    /// What `gatewayzen why` says, as text for people.
    pub async fn why(&self, name: &str) -> String {
        self.gatewayzen(&["why", name]).await.expect("an answer")
    }

    /// What `gatewayzen why` says, as fields.
    pub async fn why_json(&self, name: &str) -> Value {
        let text = self
            .gatewayzen(&["--json", "why", name])
            .await
            .expect("an answer");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The queues of this bed.
    pub async fn queue(&self) -> resque::Queue {
        resque::Queue::connect(&self.resque_config())
            .await
            .expect("Redis")
    }

    /// How to reach the queues of this bed.
    pub fn resque_config(&self) -> resque::Config {
        resque::Config {
            url: self.redis_url.clone(),
            namespace: self.namespace.clone(),
            ..resque::Config::default()
        }
    }

    /// Deletes every key of this bed: what FLUSHALL does to a Redis that is its own.
    pub async fn burn_redis(&self) {
        let client = redis::Client::open(self.redis_url.as_str()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(format!("{}:*", self.namespace))
            .query_async(&mut connection)
            .await
            .expect("keys");
        if !keys.is_empty() {
            let _: i64 = redis::cmd("DEL").arg(keys).query_async(&mut connection).await.expect("deleted");
        }
    }

    /// Creates a row in `new`, lets `prepare` see its id, and moves it to `instance`.
    pub async fn launch_after(&self, name: &str, prepare: impl FnOnce(i64)) -> i64 {
        let id: i64 = sqlx::query_scalar("INSERT INTO gatewayds (name) VALUES ($1) RETURNING id")
            .bind(name)
            .fetch_one(&self.database.app)
            .await
            .expect("a row");
        prepare(id);
        self.write_state(id, State::Instance).await.expect("a legal move");
        id
    }

    /// The ends of all logs of this bed, for the text of a failed test.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for name in SERVICES {
            let text =
                std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            all.push_str(&format!(
                "--- {name}\n{}\n",
                lines[lines.len().saturating_sub(25)..].join("\n")
            ));
        }
        all
    }
}

/// An SSH key for the fleet.
fn fleet_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key")
}

fn write_private(path: &std::path::Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn settings(
    database: &Database,
    redis_url: &str,
    namespace: &str,
    key_file: &std::path::Path,
    ring_file: &std::path::Path,
    more: &str,
) -> String {
    let own = [
        ("postgres.url", quoted(&database.url("gatewayzen_service"))),
        ("postgres.max_connections", "4".into()),
        ("postgres.acquire_timeout", quoted("2s")),
        ("redis.url", quoted(redis_url)),
        ("redis.namespace", quoted(namespace)),
        ("secrets.key_file", quoted(&ring_file.to_string_lossy())),
        ("telemetry.log", quoted("info")),
        ("worker.lease", quoted("2s")),
        ("worker.look_again", quoted("1s")),
        ("worker.backoff_first", quoted("100ms")),
        ("worker.backoff_longest", quoted("500ms")),
        ("worker.pause", quoted("500ms")),
        ("worker.max_attempts", "3".into()),
        ("dispatcher.period", quoted("500ms")),
        ("ec2.ami", quoted(DEFAULT_IMAGE)),
        ("ec2.instance_type", quoted("t3.small")),
        ("ec2.subnet", quoted("subnet-0000000000000001")),
        ("ec2.key_name", quoted("fleet")),
        ("ec2.poll", quoted("200ms")),
        ("ec2.consistency_window", quoted("1s")),
        ("ssh.key_file", quoted(&key_file.to_string_lossy())),
        ("ssh.port", "2222".into()),
        ("ssh.connect_timeout", quoted("2s")),
        ("ssh.keepalive", quoted("1s")),
        ("ssh.boot_grace", quoted("20s")),
        ("gatewayd.command_timeout", quoted("3s")),
        ("gatewayd.start_timeout", quoted("3s")),
        ("gatewayd.stop_timeout", quoted("2s")),
        ("gatewayd.request_timeout", quoted("2s")),
        ("gatewayd.lock_timeout", quoted("2s")),
    ];
    let overridden = |key: &str| {
        more.lines()
            .any(|line| line.split('=').next().is_some_and(|k| k.trim() == key))
    };
    let mut text = String::new();
    for (key, value) in own.into_iter().filter(|(key, _)| !overridden(key)) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    text.push_str(more);
    text
}

/// A TOML string.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

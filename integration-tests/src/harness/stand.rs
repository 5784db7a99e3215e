//! What a fleet of one test stands on: database, namespace, configuration, and the services as processes.

use std::path::{Path, PathBuf};

use gatewayzen_core::repository::service_role;
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Gatewayd, Repository, State};
use serde_json::Value;
use tempfile::TempDir;

use super::{Database, ServiceProcess, binary, dev_env, eventually, new_row, run};

/// The four services.
pub const SERVICES: [&str; 4] = ["dispatcher", "instance-worker", "ssh-worker", "wallet-worker"];

/// Everything of one test's fleet but its machines.
pub struct Stand {
    /// The rows.
    pub database: Database,
    /// Reads rows, and nothing secret; as the services' role.
    pub repository: Repository,
    /// What stands in `gatewayzen.toml`.
    pub config: PathBuf,
    /// For every process of this fleet.
    pub environment: Vec<(String, String)>,
    /// Resque's namespace.
    pub namespace: String,
    /// The Redis.
    pub redis_url: String,
    folder: TempDir,
}

impl Stand {
    /// A stand on this database and the development environment's Redis, or another. It is not configured yet.
    pub(super) fn new(database: Database, redis_url: Option<String>) -> Stand {
        let folder = tempfile::Builder::new()
            .prefix("gz-")
            .tempdir()
            .expect("a folder");
        for (file, id) in [("sealing_keys", "test"), ("backup_keys", "backup")] {
            let line = KeyRing::generate_line(id).expect("randomness");
            write_private(&folder.path().join(file), line.expose_str().expect("text"));
        }
        std::fs::create_dir(folder.path().join("wallets")).expect("a folder for copies of wallets");
        Stand {
            repository: database.repository("gatewayzen_service"),
            database,
            config: folder.path().join("gatewayzen.toml"),
            environment: Vec::new(),
            namespace: format!("test-{}", uuid::Uuid::new_v4().simple()),
            redis_url: redis_url.unwrap_or_else(|| dev_env("REDIS_URL")),
            folder,
        }
    }

    /// A folder that ends with the test. Its path is short: Unix sockets stand in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration: what every test has, then `machines`, then `more`; the later one wins.
    pub(super) fn configure(&self, machines: &str, more: &str) {
        let own = [
            ("postgres.url", quoted(&self.database.url("gatewayzen_service"))),
            ("postgres.max_connections", "4".into()),
            ("postgres.acquire_timeout", quoted("2s")),
            ("redis.url", quoted(&self.redis_url)),
            ("redis.namespace", quoted(&self.namespace)),
            (
                "secrets.key_file",
                quoted(&self.folder.path().join("sealing_keys").to_string_lossy()),
            ),
            (
                "secrets.backup_key_file",
                quoted(&self.folder.path().join("backup_keys").to_string_lossy()),
            ),
            (
                "secrets.wallet_copies",
                quoted(&self.wallet_copies().to_string_lossy()),
            ),
            ("telemetry.log", quoted("info")),
        ];
        let own: String = own
            .iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect();
        let mut lines: Vec<(String, String)> = Vec::new();
        for line in own
            .lines()
            .chain(machines.lines())
            .chain(more.lines())
            .filter(|line| !line.trim().is_empty())
        {
            let key = line.split('=').next().unwrap_or_default().trim().to_owned();
            lines.retain(|(known, _)| *known != key);
            lines.push((key, line.to_owned()));
        }
        let text: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        std::fs::write(&self.config, text.join("\n") + "\n").expect("the configuration");
    }

    /// Has everything of this stand work with another database from here on; returns the former one.
    pub fn restore(&mut self, database: Database) -> Database {
        self.repository = database.repository("gatewayzen_service");
        std::mem::replace(&mut self.database, database)
    }

    /// Starts one service.
    pub fn start(&self, name: &str) -> ServiceProcess {
        self.start_with(name, &[])
    }

    /// Starts one service, as its own login, with more in its environment.
    pub fn start_with(&self, name: &str, more: &[(&str, &str)]) -> ServiceProcess {
        self.start_program(&binary(name), name, more)
    }

    /// Starts one service of another build.
    pub(super) fn start_program(&self, program: &Path, name: &str, more: &[(&str, &str)]) -> ServiceProcess {
        let config = self.config.to_str().expect("a path");
        let mut environment = self.environment.clone();
        let role = service_role(name).expect("a service");
        environment.push(("GATEWAYZEN_POSTGRES__URL".into(), self.database.url(role)));
        environment.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        ServiceProcess::start_program(
            program,
            name,
            &["--config", config],
            &environment,
            self.folder.path(),
        )
    }

    /// The folder of the copies of wallets.
    pub fn wallet_copies(&self) -> PathBuf {
        self.folder.path().join("wallets")
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
        self.gatewayzen_as("gatewayzen_operator", arguments).await
    }

    /// As [`gatewayzen`](Self::gatewayzen), logged in to Postgres as this role.
    pub async fn gatewayzen_as(&self, role: &str, arguments: &[&str]) -> Result<String, (i32, String)> {
        let config = self.config.to_str().expect("a path");
        let mut all = vec!["--config", config];
        all.extend_from_slice(arguments);
        let mut environment = self.environment.clone();
        environment.push(("GATEWAYZEN_POSTGRES__URL".into(), self.database.url(role)));
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

    /// The keys that seal this bed's secrets.
    pub fn sealing_keys(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("sealing_keys")).expect("the keys")
    }

    /// The keys that seal backups of this bed's wallets.
    pub fn backup_keys(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("backup_keys")).expect("the keys")
    }

    /// Creates a row in `new`, lets `prepare` see its id, and moves it to `instance`.
    pub async fn launch_after(&self, name: &str, prepare: impl FnOnce(i64)) -> i64 {
        let id = new_row(self, name).await;
        prepare(id);
        self.write_state(id, State::Instance).await.expect("a legal move");
        id
    }

    /// The logs of the services, by name.
    pub fn log_files(&self) -> Vec<(&'static str, String)> {
        let read = |name| std::fs::read(self.folder.path().join(format!("{name}.log"))).ok();
        SERVICES
            .into_iter()
            .filter_map(|name| Some((name, String::from_utf8_lossy(&read(name)?).into_owned())))
            .collect()
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

pub(super) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

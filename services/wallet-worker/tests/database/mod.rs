//! A database of a test's own, in the development environment's Postgres.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatewayzen_core::repository::{Lease, LeaseCheck, Outcome, Repository, Verdict};
use gatewayzen_core::{Facts, State};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, postgres::PgConnectOptions};

static MADE: AtomicU32 = AtomicU32::new(0);
const LONG: Duration = Duration::from_secs(600);

/// Dropped with the test, also where that fails.
pub struct Database {
    server: PgConnectOptions,
    name: String,
    /// As the services log in.
    pub repository: Repository,
}

impl Database {
    pub async fn new() -> Self {
        let server: PgConnectOptions = server_url().parse().unwrap();
        let name = format!(
            "wallet_worker_{}_{}",
            std::process::id(),
            MADE.fetch_add(1, Ordering::Relaxed)
        );
        execute(&server, format!("CREATE DATABASE {name}")).await;
        login(&server, &name, "postgres").migrate().await.unwrap();
        let repository = login(&server, &name, "gatewayzen_service");
        Self {
            server,
            name,
            repository,
        }
    }

    /// The same database over new connections, to which its settings apply.
    pub async fn reconnect(&mut self) {
        self.repository.close().await;
        self.repository = login(&self.server, &self.name, "gatewayzen_service");
    }

    /// Runs a statement as the superuser.
    pub async fn execute(&self, sql: String) {
        execute(&self.server.clone().database(&self.name), sql).await;
    }

    /// A setting for every later connection to this database.
    pub async fn set(&self, setting: &str) {
        self.execute(format!("ALTER DATABASE {} SET {setting}", self.name))
            .await;
    }

    /// A new gatewayd in state `wallet`, as the steps before it leave it.
    pub async fn gatewayd_in_wallet(&self, name: &str, facts: Facts) -> i64 {
        self.execute(format!(
            "INSERT INTO gatewayds (name, state) VALUES ('{name}', 'instance')"
        ))
        .await;
        let id = self.repository.gatewayd_named(name).await.unwrap().unwrap().id;
        for state in [State::Instance, State::Key, State::Start] {
            let lease = self.lease(id, state).await;
            let to = state.after_step().unwrap();
            let outcome = Outcome::Advance {
                to,
                facts: facts.clone(),
                why: "test".into(),
            };
            let finished = self.repository.finish_step(&lease, &outcome, LONG).await.unwrap();
            assert_eq!(finished.check, LeaseCheck::Held);
        }
        id
    }

    pub async fn lease(&self, id: i64, state: State) -> Lease {
        match self
            .repository
            .take_lease(id, state, None, "test", LONG, 10)
            .await
            .unwrap()
        {
            Verdict::Taken(lease) => lease,
            other => panic!("no lease of {id} in {state}: {other:?}"),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, sql) = (
            self.server.clone(),
            format!("DROP DATABASE {} WITH (FORCE)", self.name),
        );
        // The test's own runtime may be ending.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(execute(&server, sql));
        });
        dropped.join().ok();
    }
}

fn login(server: &PgConnectOptions, database: &str, user: &str) -> Repository {
    let url = server.clone().username(user).database(database).to_url_lossy();
    Repository::new(url.as_str(), 4, LONG).unwrap()
}

async fn execute(options: &PgConnectOptions, sql: String) {
    let mut connection = options
        .connect()
        .await
        .expect("Postgres must run: deploy/dev/services start");
    connection.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A superuser's URL: `DATABASE_URL`, or what `deploy/dev/services` wrote.
fn server_url() -> String {
    if let Ok(url) = std::env::var("DATABASE_URL") {
        return url;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dev/env");
    let written = std::fs::read_to_string(file).expect("no DATABASE_URL: run deploy/dev/services start");
    let line = written
        .lines()
        .find_map(|line| line.strip_prefix("export DATABASE_URL="))
        .unwrap();
    line.to_owned()
}

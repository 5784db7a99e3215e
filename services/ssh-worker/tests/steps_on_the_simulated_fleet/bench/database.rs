//! A database of a test's own, in the development environment's Postgres.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatewayzen_core::Repository;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, Row as _};

static MADE: AtomicU32 = AtomicU32::new(0);

/// Dropped with the test, also where that fails.
pub struct Database {
    server: PgConnectOptions,
    name: String,
    /// As the ssh-worker logs in.
    pub repository: Repository,
    /// As the superuser: what other services do.
    pub admin: Repository,
}

impl Database {
    pub async fn new() -> Self {
        let server: PgConnectOptions = server_url().parse().unwrap();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssh_worker_{}_{number}", std::process::id());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let admin = login(&server, &name, server.get_username());
        admin.migrate().await.unwrap();
        let repository = login(&server, &name, "gatewayzen_ssh_worker");
        Self {
            server,
            name,
            repository,
            admin,
        }
    }

    pub async fn execute(&self, sql: &str) {
        execute(&self.server.clone().database(&self.name), sql.to_owned()).await;
    }

    pub async fn text(&self, sql: &'static str) -> String {
        let mut connection = connect(&self.server.clone().database(&self.name)).await;
        connection.fetch_one(sql).await.unwrap().get(0)
    }

    /// Runs an INSERT that returns an id.
    pub async fn insert(&self, sql: &'static str) -> i64 {
        let mut connection = connect(&self.server.clone().database(&self.name)).await;
        connection.fetch_one(sql).await.unwrap().get(0)
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
    Repository::new(url.as_str(), 4, Duration::from_secs(60)).unwrap()
}

async fn connect(options: &PgConnectOptions) -> PgConnection {
    options
        .connect()
        .await
        .expect("Postgres must run: deploy/dev/services start")
}

async fn execute(options: &PgConnectOptions, sql: String) {
    connect(options).await.execute(AssertSqlSafe(sql)).await.unwrap();
}

/// A superuser's URL: `TEST_POSTGRES_URL`, or what `deploy/dev/services` wrote.
fn server_url() -> String {
    if let Ok(url) = std::env::var("TEST_POSTGRES_URL") {
        return url;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.dev/env");
    let written = std::fs::read_to_string(file).expect("no Postgres to test with: run `make test`");
    let line = written
        .lines()
        .find_map(|line| line.strip_prefix("export DATABASE_URL="))
        .unwrap();
    line.to_owned()
}

//! A service starts whatever is there, says what is missing, and goes on when it comes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::process::Stdio;
use std::time::Duration;

use gatewayzen_core::Repository;
use integration_tests::harness::{Database, binary, dev_env, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A dispatcher whose log is read line by line.
struct Dispatcher {
    _child: Child,
    lines: Lines<BufReader<ChildStderr>>,
}

impl Dispatcher {
    fn start(postgres_url: &str, redis_url: &str) -> Dispatcher {
        let mut child = Command::new(binary("dispatcher"))
            .env_clear()
            .env("GATEWAYZEN_POSTGRES__URL", postgres_url)
            .env("GATEWAYZEN_REDIS__URL", redis_url)
            .env("GATEWAYZEN_HEALTH__LISTEN", "127.0.0.1:0")
            .current_dir(std::env::temp_dir())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Dispatcher { _child: child, lines }
    }

    async fn line_with(&mut self, text: &str) -> String {
        let mut all = String::new();
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(text) {
                    return Some(line);
                }
                all.push_str(&line);
                all.push('\n');
            }
            None
        });
        match found.await {
            Ok(Some(line)) => line,
            _ => panic!("no line with \"{text}\" in\n{all}"),
        }
    }

    /// The address of the health endpoint.
    async fn health(&mut self) -> String {
        let line = self.line_with("health on http://").await;
        line.split("http://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    }
}

async fn ready(address: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// An address where nobody listens, until somebody takes it.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test]
async fn a_service_waits_for_the_schema_and_for_redis_and_says_so() {
    let admin = dev_env("DATABASE_URL");
    let (server, _) = admin.rsplit_once('/').unwrap();
    let name = format!("gz_{}", uuid::Uuid::new_v4().simple());
    let pool = sqlx::PgPool::connect(&admin).await.unwrap();
    let sql = |text: String| sqlx::query(sqlx::AssertSqlSafe(text));
    sql(format!("CREATE DATABASE {name}"))
        .execute(&pool)
        .await
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut dispatcher = Dispatcher::start(&format!("{server}/{name}"), &format!("redis://127.0.0.1:{port}"));
    let health = dispatcher.health().await;
    let line = dispatcher.line_with("trying again until it can be used").await;
    assert!(
        line.contains("no GatewayZen schema: run `gatewayzen migrate`"),
        "{line}"
    );
    let answer = ready(&health).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("run `gatewayzen migrate`"),
        "{answer}"
    );

    let migrating = Repository::new(&format!("{server}/{name}"), 1, Duration::from_secs(20)).unwrap();
    migrating.migrate().await.unwrap();
    migrating.close().await;
    dispatcher.line_with("Postgres can be used now").await;
    dispatcher.line_with(&format!("127.0.0.1:{port}")).await;
    let answer = ready(&health).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("\"redis\":"),
        "{answer}"
    );
    assert!(!answer.contains("\"postgres\":"), "{answer}");

    let _redis = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    dispatcher.line_with("answers again").await;
    eventually("the dispatcher to be ready", async || {
        ready(&health).await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;

    drop(dispatcher);
    sql(format!("DROP DATABASE {name} WITH (FORCE)"))
        .execute(&pool)
        .await
        .unwrap();
}

/// As after an upgrade whose migrations are still to be run.
#[tokio::test]
async fn a_service_waits_for_the_migrations_of_its_own_version_and_says_so() {
    let (database, newest) = Database::one_migration_behind().await;
    let mut dispatcher = Dispatcher::start(&database.url("gatewayzen_service"), &dev_env("REDIS_URL"));
    let health = dispatcher.health().await;
    let line = dispatcher.line_with("trying again until it can be used").await;
    let says = format!(
        "the database has migration {} and this version needs {newest}: run `gatewayzen migrate`",
        newest - 1
    );
    assert!(line.contains(&says), "{line}");
    let answer = ready(&health).await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains(&says),
        "{answer}"
    );
    let migrating = database.repository("postgres");
    migrating.migrate().await.unwrap();
    migrating.close().await;
    dispatcher.line_with("Postgres can be used now").await;
}

#[tokio::test]
async fn a_wrong_password_or_database_is_told_as_postgres_tells_it() {
    let admin = dev_env("DATABASE_URL");
    let (server, _) = admin.rsplit_once('/').unwrap();
    let mut dispatcher = Dispatcher::start(&format!("{server}/nowhere"), &dev_env("REDIS_URL"));
    let line = dispatcher.line_with("cannot be used").await;
    assert!(line.contains("database \"nowhere\" does not exist"), "{line}");
    assert!(
        line.contains("check that it runs and that postgres.url is right"),
        "{line}"
    );
}

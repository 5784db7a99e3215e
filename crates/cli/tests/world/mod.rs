//! A database and a Redis namespace of a test's own, and the command to run against them.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gatewayzen_core::repository::{Lease, Outcome, Verdict};
use gatewayzen_core::{Facts, Repository, State};
use serde_json::Value;
use sqlx::Connection as _;

/// A URL of the environment, or of what `make services` wrote.
fn variable(name: &str, written: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.dev/env");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let prefix = format!("export {written}=");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        found
            .unwrap_or_else(|| panic!("{name} is not set and no private servers run: run `make test`"))
            .to_owned()
    })
}

pub struct World {
    name: String,
    admin: String,
    pub redis: String,
    pub repository: Repository,
    pub runtime: tokio::runtime::Runtime,
}

impl World {
    /// With the schema.
    pub fn new() -> World {
        let world = World::empty();
        let migrated = world.run(&["migrate"]);
        assert!(migrated.status.success(), "{migrated:?}");
        world
    }

    /// Without the schema.
    pub fn empty() -> World {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Also other than what an earlier run left behind that was killed.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
        let name = format!("cli_{now}_{}_{number}", std::process::id());
        let admin = variable("TEST_POSTGRES_URL", "DATABASE_URL");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(sql(&admin, format!("CREATE DATABASE {name} TEMPLATE template0")));
        let url = with_database(&admin, &name);
        let entered = runtime.enter();
        let repository = Repository::new(&url, 2, Duration::from_secs(10)).unwrap();
        drop(entered);
        World {
            name,
            admin,
            redis: variable("TEST_REDIS_URL", "REDIS_URL"),
            repository,
            runtime,
        }
    }

    pub fn url(&self) -> String {
        with_database(&self.admin, &self.name)
    }

    /// The URL as another login; the test server trusts everybody.
    pub fn url_as(&self, role: &str) -> String {
        let url = self.url();
        let (_, rest) = url.split_once('@').unwrap();
        format!("postgres://{role}@{rest}")
    }

    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// The command, in an empty folder and with no setting but the addresses.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command
            .env("GATEWAYZEN_POSTGRES__URL", self.url())
            .env("GATEWAYZEN_REDIS__URL", &self.redis)
            .env("GATEWAYZEN_REDIS__NAMESPACE", &self.name);
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command prints that must end well.
    pub fn ok(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// Its `--json`.
    pub fn json(&self, args: &[&str]) -> Value {
        let mut args = args.to_vec();
        args.push("--json");
        serde_json::from_str(&self.ok(&args)).unwrap()
    }

    /// Standard error of a command that must end with this exit code.
    pub fn refused(&self, args: &[&str], code: i32) -> String {
        refused(self.run(args), code)
    }

    /// The answer of `why`.
    pub fn why(&self, name: &str) -> (String, String) {
        let answer = self.json(&["why", name]);
        let text = self.ok(&["why", name]);
        (answer["situation"].as_str().unwrap().to_owned(), text)
    }

    /// Takes a row as a worker does.
    pub fn take(&self, id: i64, state: State) -> Lease {
        let taken =
            self.repository
                .take_lease(id, state, None, "a-worker@host:7", Duration::from_secs(30), 8);
        match self.runtime.block_on(taken).unwrap() {
            Verdict::Taken(lease) => lease,
            other => panic!("not taken: {other:?}"),
        }
    }

    pub fn finish(&self, lease: &Lease, outcome: Outcome) {
        let finished = self
            .repository
            .finish_step(lease, &outcome, Duration::from_secs(10));
        self.runtime.block_on(finished).unwrap();
    }

    /// Takes a row's step and ends it well.
    pub fn advance(&self, id: i64, state: State) {
        let lease = self.take(id, state);
        let to = state.after_step().unwrap();
        self.finish(
            &lease,
            Outcome::Advance {
                to,
                facts: Facts::default(),
                why: format!("done with {state}"),
            },
        );
    }

    /// Registers a worker of another client, idle.
    pub fn register_worker(&self, queue: &str) {
        let key = format!("{}:workers", self.name);
        self.redis_command(redis::cmd("SADD").arg(key).arg(format!("host:12:{queue}")));
    }

    pub fn redis_command(&self, command: &redis::Cmd) {
        let client = redis::Client::open(self.redis.as_str()).unwrap();
        self.runtime.block_on(async {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            command
                .query_async::<redis::Value>(&mut connection)
                .await
                .unwrap();
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let script = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end";
        let keys = format!("{}:*", self.name);
        self.redis_command(redis::cmd("EVAL").arg(script).arg(0).arg(keys));
        self.runtime.block_on(async {
            self.repository.close().await;
            sql(
                &self.admin,
                format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name),
            )
            .await;
        });
    }
}

pub fn bare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatewayzen"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GATEWAYZEN_"))
    {
        command.env_remove(name);
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

pub fn refused(done: Output, code: i32) -> String {
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(
        done.status.code(),
        Some(code),
        "{error}{}",
        String::from_utf8_lossy(&done.stdout)
    );
    if code != 2 {
        assert_eq!(error.trim_end().lines().count(), 1, "not one line: {error}");
    }
    error
}

/// A command that runs beside the test, and its lines.
pub struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Waits for the next line.
    pub fn line(&mut self) -> String {
        self.lines.next().expect("the command ended").unwrap()
    }

    /// The rest of its lines, and its exit code.
    pub fn end(mut self) -> (Vec<String>, Option<i32>) {
        let rest = self.lines.by_ref().map(Result::unwrap).collect();
        (rest, self.child.wait().unwrap().code())
    }
}

fn with_database(admin: &str, name: &str) -> String {
    let (server, _) = admin
        .rsplit_once('/')
        .expect("the administrator's URL ends with a database");
    format!("{server}/{name}")
}

async fn sql(url: &str, statement: String) {
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

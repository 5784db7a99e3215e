//! What every test of this crate stands on: real Postgres and Redis, a database and a namespace of its own,
//! and the services as processes.

mod backup;
mod bed;
mod collector;
mod database;
mod local;
mod npm;
mod object_store;
mod previous;
mod process;
mod queues;
mod scrape;
mod servers;
mod stand;
mod walks;

pub use bed::{Bed, Options};
pub use collector::{Collector, Seen};
pub use database::Database;
pub use local::{LocalFleet, Mode};
pub use npm::{npm_folder, npm_peer};
pub use object_store::ObjectStore;
pub use previous::Previous;
pub use process::{ServiceProcess, binary, run};
pub use queues::redis_connection;
pub use scrape::{Scrape, Series};
pub use servers::{PostgresServer, RedisServer, free_port};
pub use stand::{SERVICES, Stand};
pub use walks::{CIRCLE, new_row, walk, walk_round, write};

use std::path::PathBuf;
use std::time::Duration;

/// How long a test waits for anything before it says what it saw instead.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of the development environment.
pub fn dev_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.dev")
}

/// A value of the development environment, as `deploy/dev/services start` wrote it.
pub fn dev_env(name: &str) -> String {
    let file = dev_folder().join("env");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run `make test`, or `make services` first",
            file.display()
        )
    });
    let prefix = format!("export {name}=");
    text.lines()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap_or_else(|| panic!("{} names no {name}; run `make services`", file.display()))
        .to_owned()
}

/// Waits for a condition, asking often; says what it waited for when patience ends.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "waited {PATIENCE:?} for {what}"
        );
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

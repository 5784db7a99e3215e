//! Waiting for Postgres and Redis, which may start after this service or be away for a while.

use std::str::FromStr as _;
use std::time::Duration;

use gatewayzen_core::Repository;
use gatewayzen_core::repository::RepositoryError;
use resque::Queue;
use secrecy::ExposeSecret as _;
use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::settings::{ConfigError, Postgres};

/// How long one look at Postgres may take.
const LOOK: Duration = Duration::from_secs(2);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Postgres, and how to ask it whether it can be used.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) repository: Repository,
    options: PgConnectOptions,
    service: &'static str,
}

impl Database {
    pub(crate) fn new(settings: &Postgres, service: &'static str) -> Result<Database, ConfigError> {
        let url = settings.url.expose_secret();
        let bad = |error: String| ConfigError::of("postgres.url", error);
        Ok(Database {
            repository: Repository::new(url, settings.max_connections, settings.acquire_timeout)
                .map_err(|error| bad(error.to_string()))?,
            options: PgConnectOptions::from_str(url).map_err(|error| bad(error.to_string()))?,
            service,
        })
    }

    /// Whether the pool reaches a database with our schema, with the rights of this service; otherwise why not, with what to do.
    pub(crate) async fn usable(&self) -> Result<(), String> {
        let look = async {
            self.repository.check_schema().await?;
            self.repository.check_role(self.service).await
        };
        match timeout(LOOK, look).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(RepositoryError::Schema(text))) => Err(text),
            // The pool's own error is "timed out", whatever the cause: a connection of our own tells it.
            failed => {
                self.reachable().await?;
                let failed = failed.map_or_else(
                    |_| format!("no answer within {LOOK:?}"),
                    |answer| match answer {
                        Ok(()) => String::new(),
                        Err(error) => error.to_string(),
                    },
                );
                Err(format!(
                    "Postgres takes connections, but this service's do not answer: {failed}"
                ))
            }
        }
    }

    async fn reachable(&self) -> Result<(), String> {
        let reason = match timeout(LOOK, PgConnection::connect_with(&self.options)).await {
            Ok(Ok(connection)) => {
                // Only a courtesy to the server's log: it was reached.
                let _ = connection.close().await;
                return Ok(());
            }
            Ok(Err(sqlx::Error::Io(error))) => error.to_string(),
            Ok(Err(sqlx::Error::Database(error))) => error.message().to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LOOK:?}"),
        };
        let (host, port) = (self.options.get_host(), self.options.get_port());
        Err(format!(
            "Postgres at {host}:{port} cannot be used: {reason}; check that it runs and that postgres.url is right"
        ))
    }

    /// Waits until it can be used. Each new reason why not is one line in the log.
    pub(crate) async fn wait(&self) {
        let mut told = String::new();
        let mut delay = FIRST_DELAY;
        loop {
            // A connection of our own first, which fails at once where the pool would try on for its whole timeout.
            let answer = match self.reachable().await {
                Ok(()) => self.usable().await,
                Err(reason) => Err(reason),
            };
            match answer {
                Ok(()) if told.is_empty() => return,
                Ok(()) => return tracing::info!("Postgres can be used now"),
                Err(reason) if reason != told => {
                    tracing::error!("{reason}; trying again until it can be used");
                    told = reason;
                }
                Err(_) => {}
            }
            pause(&mut delay).await;
        }
    }
}

/// Waits until Redis answers. The queue logs the outage itself.
pub(crate) async fn wait_for_redis(queue: &Queue) {
    let mut delay = FIRST_DELAY;
    while queue.ping().await.is_err() {
        pause(&mut delay).await;
    }
}

/// Sleeps, longer each time, and never quite as long as the neighbours.
async fn pause(delay: &mut Duration) {
    tokio::time::sleep(delay.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    *delay = (*delay * 2).min(LONGEST_DELAY);
}

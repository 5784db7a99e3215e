//! The Postgres repository: the only place that speaks SQL.
//!
//! Everything that a worker writes goes through a function of `migrations/0005_engine.sql`, `0007_sweep.sql` or
//! `0012_identities.sql`, which checks the worker's lease and the row's generation; what is here only calls it.

mod decommission;
mod doors;
mod figures;
mod gatewayd;
mod halts;
mod identities;
mod launches;
mod leases;
mod reading;
mod roles;
mod secrets;
mod ssh_keys;
mod sweeps;
mod vault;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use uuid::Uuid;

pub use decommission::DecommissionPolicy;
pub use doors::{Move, Refused};
pub use figures::{Figures, StateFigures, SweepFigures};
pub use gatewayd::Gatewayd;
pub use halts::Halt;
pub use identities::{Audited, HostIdentity, Reset};
pub use launches::{LaunchAttempt, Opening};
pub use leases::{Finished, Lease, LeaseCheck, Outcome, Verdict};
pub use reading::{DueJob, Filter, HistoryEntry, Overdue, StateCount, Surroundings};
pub use roles::{ALL_ROLES, service_role};
pub use secrets::StoredWallet;
pub use ssh_keys::{HostLease, KeyedHost, RunLease, SshKeyRun};
pub use sweeps::{Bereft, Missed, Sweep, SweepLease};
pub use vault::{KeyCount, PublicWallet, SealedRow, SecretKind, ToReveal};

/// The migrations, in the binary.
static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// The channel on which the database says that a row became due.
pub const DUE_CHANNEL: &str = "gatewayzen_due";

/// A pool of connections and every statement that is sent over it.
#[derive(Clone, Debug)]
pub struct Repository {
    pool: PgPool,
}

/// Hears when somebody's write makes rows due.
#[derive(Debug)]
pub struct DueListener(PgListener);

impl DueListener {
    /// Waits for the next word. False: the connection broke; make a new listener.
    pub async fn notified(&mut self) -> bool {
        matches!(self.0.try_recv().await, Ok(Some(_)))
    }
}

/// A statement that failed.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The URL cannot be read.
    #[error(
        "the Postgres URL cannot be read: {0}; it looks like postgres://user:password@host:5432/database"
    )]
    BadUrl(String),
    /// Postgres does not answer, or refused the login.
    #[error("Postgres cannot be reached: {0}")]
    Unreachable(String),
    /// The schema is older or newer than this binary knows.
    #[error("{0}")]
    Schema(String),
    /// A row holds something that this binary does not understand.
    #[error("row {id} holds {what}, which this version does not understand")]
    Strange {
        /// `gatewayds.id`.
        id: i64,
        /// What was found.
        what: String,
    },
    /// Anything else.
    #[error("Postgres: {0}")]
    Sql(#[from] sqlx::Error),
    /// A migration failed.
    #[error("a migration failed: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl RepositoryError {
    /// Whether somebody's open transaction has the row: trouble of this row alone.
    pub fn is_locked(&self) -> bool {
        matches!(self, RepositoryError::Sql(sqlx::Error::Database(db)) if db.code().as_deref() == Some(leases::LOCK_NOT_AVAILABLE))
    }

    /// Whether the statement may succeed when Postgres is back, rather than being wrong.
    pub fn is_outage(&self) -> bool {
        match self {
            RepositoryError::Unreachable(_) => true,
            RepositoryError::Sql(error) => match error {
                sqlx::Error::Database(db) => {
                    // Shutting down, starting up, too many connections, connection exceptions, serialisation, and a
                    // row that somebody's open transaction has.
                    db.code().is_some_and(|c| {
                        c.starts_with("57")
                            || c.starts_with("53")
                            || c.starts_with("08")
                            || c.starts_with("40")
                            || c == leases::LOCK_NOT_AVAILABLE
                    })
                }
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                _ => false,
            },
            _ => false,
        }
    }
}

/// A result of the repository.
pub type Result<T> = std::result::Result<T, RepositoryError>;

impl Repository {
    /// Makes a pool. It connects when it is first used, so this fails only for a URL that cannot be read.
    ///
    /// `acquire` bounds the wait for a connection, an outage of Postgres included.
    pub fn new(url: &str, max_connections: u32, acquire: Duration) -> Result<Repository> {
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
            // The URL may hold a password: only what is wrong with it is repeated.
            RepositoryError::BadUrl(error.to_string())
        })?;
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(acquire)
            .test_before_acquire(true)
            .connect_lazy_with(options.application_name("gatewayzen"));
        Ok(Repository { pool })
    }

    /// Whom this connects to, as "user at host:port, database name": no secret, for messages.
    pub fn target(&self) -> String {
        let options = self.pool.connect_options();
        format!(
            "{} at {}:{}, database {}",
            options.get_username(),
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username())
        )
    }

    /// Sees that Postgres answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1")
            .execute(&self.pool)
            .await
            .map_err(|error| match error {
                sqlx::Error::Database(db) => RepositoryError::Unreachable(db.message().to_owned()),
                other => RepositoryError::Unreachable(other.to_string()),
            })?;
        Ok(())
    }

    /// Sees that the schema has every migration that this binary needs. A newer schema is fine: migrations
    /// expand first, so that old and new binaries run side by side.
    pub async fn check_schema(&self) -> Result<()> {
        let wanted = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
        let found: Option<i64> =
            match sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                .fetch_one(&self.pool)
                .await
            {
                Ok(found) => found,
                Err(sqlx::Error::Database(db)) if db.code().as_deref() == Some("42P01") => None,
                // A table that this role may not read was made by other hands than these migrations.
                Err(sqlx::Error::Database(db)) if db.code().as_deref() == Some("42501") => {
                    return Err(RepositoryError::Schema(
                        "this login may not read the table _sqlx_migrations: run `gatewayzen migrate` as the \
                         database's owner"
                            .into(),
                    ));
                }
                Err(other) => return Err(other.into()),
            };
        match found {
            Some(found) if found >= wanted => Ok(()),
            Some(found) => Err(RepositoryError::Schema(format!(
                "the database has migration {found} and this version needs {wanted}: run `gatewayzen migrate`"
            ))),
            None => Err(RepositoryError::Schema(
                "the database has no GatewayZen schema: run `gatewayzen migrate`".into(),
            )),
        }
    }

    /// The fleet's identity, made at the first migrate.
    pub async fn fleet_id(&self) -> Result<Uuid> {
        Ok(sqlx::query_scalar("SELECT id FROM fleet")
            .fetch_one(&self.pool)
            .await?)
    }

    /// Whether a commit survives a crash of Postgres: `fsync` and `synchronous_commit` on. Returns the settings
    /// that are not.
    pub async fn unsafe_durability(&self) -> Result<Vec<&'static str>> {
        let (fsync, commit): (String, String) =
            sqlx::query_as("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
                .fetch_one(&self.pool)
                .await?;
        let mut off = Vec::new();
        if fsync != "on" {
            off.push("fsync");
        }
        if commit == "off" {
            off.push("synchronous_commit");
        }
        Ok(off)
    }

    /// Seconds by which Postgres's clock is ahead of this machine's.
    pub async fn clock_skew(&self) -> Result<f64> {
        let theirs: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&self.pool)
            .await?;
        let ours = time::OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9;
        Ok(theirs - ours)
    }

    /// Listens for rows that become due.
    pub async fn listen_due(&self) -> Result<DueListener> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(DUE_CHANNEL).await?;
        Ok(DueListener(listener))
    }

    /// Gives all connections back. A statement in flight ends first.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A duration as Postgres's `interval`, to the microsecond.
fn interval(duration: Duration) -> sqlx::postgres::types::PgInterval {
    sqlx::postgres::types::PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

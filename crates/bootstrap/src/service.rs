//! The frame of a service: arguments, settings, logs, runtime, health and shutdown.

use std::fmt;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use gatewayzen_core::Repository;
use gatewayzen_core::seal::KeyRing;
use resque::Queue;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::connect::{Database, wait_for_redis};
use crate::health::{self, Health};
use crate::keys::Rings;
use crate::settings::{ConfigError, Settings};
use crate::{exposure, shutdown, telemetry};

mod ask;
mod prepare;

use prepare::Prepared;

/// The arguments or the configuration are wrong: `EX_USAGE` of `sysexits.h`. Starting again does not help.
pub const EXIT_CONFIG: u8 = 64;

/// `--check` could not reach what it checks, or `--ready` found the service not ready: `EX_UNAVAILABLE` of `sysexits.h`. Later
/// it may.
const EXIT_UNAVAILABLE: u8 = 69;

/// How the sentence of a `--check` begins when all is well.
pub const GOOD: &str = "the configuration is good";

/// Steps wait on the network nearly all the time: more threads would only take memory.
const THREADS: usize = 2;

/// Anything that ends a service.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The service was told to stop while it waited. It ends in success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("told to stop")
    }
}

impl std::error::Error for Stopped {}

/// A running service.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name: also the OpenTelemetry service name, and what [`gatewayzen_core::Step::worker`] gives.
    pub name: &'static str,
    /// All settings.
    pub settings: Settings,
    /// The queues that it takes; empty for a service that takes none.
    pub queues: Vec<String>,
    /// Cancelled by the first SIGTERM or SIGINT: take nothing new, finish what is in hand, return.
    pub shutdown: CancellationToken,
    /// What `/readyz` says.
    pub health: Health,
    rings: Rings,
}

impl Service {
    /// Waits until Postgres can be used with this version's schema. While it cannot, now or at any later time,
    /// `/readyz` says why.
    ///
    /// # Errors
    /// [`Stopped`] on a signal, and a [`ConfigError`] for a URL that cannot be read.
    pub async fn repository(&self) -> Result<Repository, Error> {
        let database = Database::new(&self.settings.postgres, self.name)?;
        let probed = database.clone();
        self.health.add_probe("postgres", move || {
            let database = probed.clone();
            async move { database.usable().await }
        });
        self.unless_stopped(database.wait()).await?;
        self.health.set_ready("postgres");
        Ok(database.repository)
    }

    /// A few connections apart, for work beside the service's own. They connect when they are first used; nothing is waited
    /// for, and `/readyz` does not look at them.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn repository_beside(&self) -> Result<Repository, ConfigError> {
        let postgres = &self.settings.postgres;
        Repository::new(postgres.url.expose_secret(), 2, postgres.acquire_timeout)
            .map_err(|error| ConfigError::of("postgres.url", error.to_string()))
    }

    /// A connection to the queues for what runs beside the service's own work. Nothing waits for it.
    ///
    /// # Errors
    /// [`resque::Error::Config`] for a URL that cannot be read.
    pub fn queue_beside(&self) -> Result<Queue, Error> {
        Ok(Queue::connect_lazy(&self.settings.resque())?)
    }

    /// Waits until Redis answers. While it does not, now or at any later time, `/readyz` says why.
    ///
    /// # Errors
    /// [`Stopped`] on a signal, and [`resque::Error::Config`] for a URL that cannot be read.
    pub async fn queue(&self) -> Result<Queue, Error> {
        let queue = Queue::connect_lazy(&self.settings.resque())?;
        let probed = queue.clone();
        self.health.add_probe("redis", move || {
            let queue = probed.clone();
            async move { queue.ping().await.map(drop).map_err(|error| error.to_string()) }
        });
        self.unless_stopped(wait_for_redis(&queue)).await?;
        self.health.set_ready("redis");
        Ok(queue)
    }

    async fn unless_stopped(&self, waiting: impl Future<Output = ()>) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Stopped),
            () = waiting => Ok(()),
        }
    }

    /// This process among all of the fleet, as rows and history name it: `ssh-worker@host:4711`.
    pub fn identity(&self) -> String {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim())
            .filter(|host| !host.is_empty())
            .unwrap_or("unknown");
        format!("{}@{host}:{}", self.name, std::process::id())
    }

    /// The keys that seal secrets.
    ///
    /// # Errors
    /// There are none.
    pub fn key_ring(&self) -> Result<KeyRing, ConfigError> {
        self.rings.need_common(&self.settings.secrets).cloned()
    }

    /// The keys that seal seeds of wallets. Only the wallet-worker has them.
    ///
    /// # Errors
    /// There are none.
    pub fn wallet_ring(&self) -> Result<KeyRing, ConfigError> {
        self.rings.need_wallets(&self.settings.secrets).cloned()
    }

    /// The keys that seal backups of wallets.
    ///
    /// # Errors
    /// There are none.
    pub fn backup_ring(&self) -> Result<KeyRing, ConfigError> {
        self.rings.need_backups(&self.settings.secrets).cloned()
    }
}

/// The `main` of a service. Reads arguments and settings, starts logs, traces, the health endpoint and the signal
/// handlers, and runs `run`, whose end is the service's end.
///
/// Exit codes: 0 done or told to stop, 1 failed, 64 wrong arguments or configuration, 130 and 143 a second signal.
pub fn main<F, R>(name: &'static str, run: F) -> ExitCode
where
    F: FnOnce(Service) -> R,
    R: Future<Output = Result<(), Error>>,
{
    main_with_check(name, async |_| Ok(GOOD.to_owned()), run)
}

/// As [`main`], for a service that can check more than the settings themselves. `check` is run for `--check` only
/// and returns the sentence to print; a [`ConfigError`] ends with 64, any other error, which is something that cannot
/// be reached just now, with 69.
pub fn main_with_check<C, D, F, R>(name: &'static str, check: C, run: F) -> ExitCode
where
    C: FnOnce(Settings) -> D,
    D: Future<Output = Result<String, Error>>,
    F: FnOnce(Service) -> R,
    R: Future<Output = Result<(), Error>>,
{
    // Before any secret is read.
    if let Err(error) = exposure::keep_to_itself() {
        eprintln!("{name}: warning: this process cannot forbid its core dumps: {error}");
    }
    let arguments = match prepare::arguments(name) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.ready {
        return ask::ready(name, &arguments);
    }
    let prepared = match prepare::prepare(name, &arguments) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("{name}: bad configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.check {
        prepared
            .warnings
            .iter()
            .for_each(|warning| eprintln!("{name}: warning: {warning}"));
        return ask::checked(name, check(prepared.settings));
    }
    start(name, prepared, run)
}

fn start<F, R>(name: &'static str, prepared: Prepared, run: F) -> ExitCode
where
    F: FnOnce(Service) -> R,
    R: Future<Output = Result<(), Error>>,
{
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("{name}: the system refuses threads for the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let telemetry = match telemetry::init(name, &prepared.settings.telemetry, runtime.handle()) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("{name}: bad configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    tracing::info!("{name} {} starts", env!("CARGO_PKG_VERSION"));
    gatewayzen_core::crash::stop_at(prepared.settings.testing.stop_at.clone());
    gatewayzen_core::crash::panic_at(prepared.settings.testing.panic_at.clone());
    prepared
        .warnings
        .iter()
        .for_each(|warning| tracing::warn!("{warning}"));

    let ended = runtime.block_on(serve(name, prepared, run));
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            if error.is::<ConfigError>() {
                ExitCode::from(EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    };
    // The runtime still sends: it must outlive the exporter.
    telemetry.shut_down();
    // A task that blocks a thread (a look-up of a name, say) does not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

async fn serve<F, R>(name: &'static str, prepared: Prepared, run: F) -> Result<(), Error>
where
    F: FnOnce(Service) -> R,
    R: Future<Output = Result<(), Error>>,
{
    let Prepared {
        settings,
        queues,
        rings,
        ..
    } = prepared;
    let shutdown = CancellationToken::new();
    shutdown::on_signals(shutdown.clone())?;
    let health = Health::new();
    for component in ["postgres", "redis"] {
        health.set_not_ready(component, "not connected yet");
    }
    health.measure();
    if let Ok(address) = settings.health.listen.parse() {
        health.serve(health::listen(address).await?);
    }
    let draining = (shutdown.clone(), health.clone());
    tokio::spawn(async move {
        draining.0.cancelled().await;
        draining.1.set_not_ready("shutdown", "draining: told to stop");
    });
    run(Service {
        name,
        settings,
        queues,
        shutdown,
        health,
        rings,
    })
    .await?;
    tracing::info!("{name} ends");
    Ok(())
}

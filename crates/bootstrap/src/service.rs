//! The frame of a service: arguments, settings, logs, runtime, health and shutdown.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as _, Command, FromArgMatches as _};
use gatewayzen_core::Repository;
use gatewayzen_core::seal::KeyRing;
use resque::Queue;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::connect::{Database, wait_for_redis};
use crate::health::{self, Health};
use crate::keys::Rings;
use crate::settings::{self, ConfigError, Settings};
use crate::{exposure, keys, shutdown, telemetry};

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

#[derive(clap::Args)]
struct Arguments {
    /// Settings file; without it the file that GATEWAYZEN_CONFIG names, or ./gatewayzen.toml if there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings, the files that they name and what only this service knows, say so in one line, and leave
    #[arg(long)]
    check: bool,
    /// Ask the service that runs here with these settings whether it is ready, print its answer, and leave
    #[arg(long, conflicts_with = "check")]
    ready: bool,
}

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
    let arguments = match arguments(name) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    if arguments.ready {
        return ready(name, &arguments);
    }
    let prepared = match prepare(name, &arguments) {
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
        return checked(name, check(prepared.settings));
    }
    start(name, prepared, run)
}

/// Asks the running service and tells its answer.
fn ready(name: &str, arguments: &Arguments) -> ExitCode {
    let settings = match settings::load(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{name}: bad configuration: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let Ok(address) = settings.health.listen.parse() else {
        eprintln!("{name}: bad configuration: health.listen: it is empty, so nobody can be asked");
        return ExitCode::from(EXIT_CONFIG);
    };
    match health::ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{name}: not ready: {reason}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

/// Waits for a check and tells its end.
fn checked(name: &str, check: impl Future<Output = Result<String, Error>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(check);
            // A look-up of a name that hangs does not keep the process alive.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(sentence) => {
            println!("{name}: {sentence}");
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<ConfigError>() => {
            eprintln!("{name}: bad configuration: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

fn arguments(name: &'static str) -> Result<Arguments, ExitCode> {
    let command = Arguments::augment_args(Command::new(name).version(env!("CARGO_PKG_VERSION")));
    let parsed = command
        .try_get_matches()
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.map_err(|error| {
        // Nothing can be done about an error that cannot be printed.
        let _ = error.print();
        // `--help` and `--version` come here too.
        ExitCode::from(if error.use_stderr() { EXIT_CONFIG } else { 0 })
    })
}

/// What is known before anything is started.
struct Prepared {
    settings: Settings,
    queues: Vec<String>,
    rings: Rings,
    warnings: Vec<String>,
}

/// Reads the settings, and once every file of secrets that this service needs, so that what is wrong shows now
/// and not at the first job.
fn prepare(name: &str, arguments: &Arguments) -> Result<Prepared, ConfigError> {
    let settings = settings::load(arguments.config.as_deref())?;
    let queues = settings.queues(name)?;
    let mut secret_files = vec![
        ("postgres.password_file", &settings.postgres.password_file),
        ("redis.password_file", &settings.redis.password_file),
    ];
    let secrets = &settings.secrets;
    // Read once: a wrapped key is unwrapped by a command, and needs the key service at that moment only.
    let rings = match name {
        "wallet-worker" => Rings::all(secrets)?,
        _ if queues.is_empty() => Rings::default(),
        _ => Rings::common(secrets)?,
    };
    // Whoever takes a queue opens or seals secrets.
    if !queues.is_empty() {
        rings.need_common(secrets)?;
        secret_files.push(("secrets.key_file", &secrets.key_file));
    }
    if name == "wallet-worker" {
        secret_files.push(("secrets.wallet_key_file", &secrets.wallet_key_file));
        secret_files.push(("secrets.backup_key_file", &secrets.backup_key_file));
    }
    if name == "ssh-worker" {
        let path = &settings.ssh.key_file;
        if path.is_empty() {
            return Err(ConfigError::of(
                "ssh.key_file",
                "ssh-worker logs in with it: name the fleet's private key",
            ));
        }
        keys::read_private("ssh.key_file", path)?;
        secret_files.push(("ssh.key_file", path));
        let next = &settings.ssh.next_key_file;
        if !next.is_empty() {
            keys::read_private("ssh.next_key_file", next)?;
            secret_files.push(("ssh.next_key_file", next));
        }
    }
    let mut warnings = settings.warnings();
    let file = settings::file(arguments.config.as_deref());
    warnings.extend(exposure::warnings(&settings, file.as_deref()));
    if settings.secrets.core_dumps
        && let Err(error) = exposure::allow_core_dumps()
    {
        warnings.push(format!("secrets.core_dumps: the system refuses: {error}"));
    }
    for (key, path) in secret_files {
        warnings.extend(keys::readable_by_others(path).map(|warning| format!("{key}: {warning}")));
    }
    Ok(Prepared {
        settings,
        queues,
        rings,
        warnings,
    })
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

//! What settings must be to work together, beyond being of the right kind.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use gatewayzen_core::{State, Step};
use secrecy::ExposeSecret as _;

use super::error::ConfigError;
use super::{Deadlines, Secrets, Settings};

type Check = Result<(), ConfigError>;

fn check_that(holds: bool, key: &str, problem: impl FnOnce() -> String) -> Check {
    if holds {
        Ok(())
    } else {
        Err(ConfigError::of(key, problem()))
    }
}

/// Refuses what cannot work.
pub(super) fn check(settings: &Settings) -> Check {
    check_stores(settings)?;
    check_numbers(settings)?;
    check_durations(settings)?;
    check_texts(settings)?;
    check_telemetry(settings)
}

fn check_stores(settings: &Settings) -> Check {
    let url = settings.postgres.url.expose_secret();
    let example = "it looks like postgres://user:password@host:5432/database";
    check_that(
        url.starts_with("postgres://") || url.starts_with("postgresql://"),
        "postgres.url",
        || format!("it does not begin with postgres://; {example}"),
    )?;
    // The error names what is wrong with the URL and quotes nothing of it.
    sqlx::postgres::PgConnectOptions::from_str(url)
        .map_err(|_| ConfigError::of("postgres.url", format!("it cannot be read; {example}")))?;
    check_that(
        settings.postgres.max_connections > 0,
        "postgres.max_connections",
        || "must be at least 1".into(),
    )?;

    let redis = settings.resque();
    let namespace = &redis.namespace;
    check_that(
        !namespace.is_empty() && !namespace.contains(char::is_whitespace),
        "redis.namespace",
        || format!("must not be empty or hold blanks, is \"{namespace}\"; the usual one is \"resque\""),
    )?;
    resque::Queue::connect_lazy(&redis).map(drop).map_err(|error| {
        let key = if redis.ca_file.is_empty() {
            "redis.url"
        } else {
            "redis.ca_file"
        };
        ConfigError::of(key, error.to_string())
    })?;

    check_secrets(&settings.secrets)
}

fn check_secrets(secrets: &Secrets) -> Check {
    let rings = [
        (
            "secrets.keys",
            "secrets.key_file",
            &secrets.key_file,
            &secrets.keys,
        ),
        (
            "secrets.wallet_keys",
            "secrets.wallet_key_file",
            &secrets.wallet_key_file,
            &secrets.wallet_keys,
        ),
        (
            "secrets.backup_keys",
            "secrets.backup_key_file",
            &secrets.backup_key_file,
            &secrets.backup_keys,
        ),
    ];
    for (key, file_key, file, keys) in rings {
        check_that(file.is_empty() || keys.expose_secret().is_empty(), key, || {
            format!("{file_key} is set as well; set one of the two")
        })?;
    }
    let command = &secrets.wallet_copy_command;
    if !command.is_empty() {
        let key = "secrets.wallet_copy_command";
        check_that(command.iter().any(|word| word.contains("{file}")), key, || {
            "none of its words holds {file}, which is the copy's path".into()
        })?;
        check_that(!secrets.wallet_copies.is_empty(), key, || {
            "it carries the copies of secrets.wallet_copies, which is not set".into()
        })?;
    }
    let copies = &secrets.wallet_copies;
    if copies.is_empty() {
        return Ok(());
    }
    check_that(
        std::path::Path::new(copies).is_absolute(),
        "secrets.wallet_copies",
        || format!("must be a folder's whole path, is \"{copies}\""),
    )?;
    check_that(
        !secrets.backup_key_file.is_empty() || !secrets.backup_keys.expose_secret().is_empty(),
        "secrets.wallet_copies",
        || "copies are sealed with backup keys: set secrets.backup_key_file as well".into(),
    )
}

fn check_numbers(settings: &Settings) -> Check {
    let at_least = [
        ("worker.slots", settings.worker.slots, 1),
        ("worker.max_attempts", settings.worker.max_attempts as usize, 1),
        ("dispatcher.batch", settings.dispatcher.batch as usize, 1),
        ("fault_budget.least", settings.fault_budget.least as usize, 1),
        ("ec2.launches_at_once", settings.ec2.launches_at_once as usize, 1),
        ("ssh.sessions_per_host", settings.ssh.sessions_per_host, 1),
        ("ssh.output_limit", settings.ssh.output_limit, 1024),
        ("ssh.port", settings.ssh.port.into(), 1),
        ("gatewayd.https_port", settings.gatewayd.https_port.into(), 1),
    ];
    for (key, value, least) in at_least {
        check_that(value >= least, key, || {
            format!("must be at least {least}, is {value}")
        })?;
    }
    let ssh = &settings.ssh;
    check_that(
        ssh.next_key_file.is_empty() || ssh.sessions_per_host >= 2,
        "ssh.sessions_per_host",
        || {
            "must be at least 2 where ssh.next_key_file is set: one session is kept while another one is tried".into()
        },
    )?;
    let share = settings.sweep.most_share;
    check_that((0.0..=1.0).contains(&share), "sweep.most_share", || {
        format!("must be from 0 to 1, is {share}")
    })?;
    let share = settings.fault_budget.share;
    // A share of 0 would halt the fleet at its first fault of `least` rows, which fault_budget.least = 1 says as well.
    check_that(share > 0.0 && share <= 1.0, "fault_budget.share", || {
        format!("must be more than 0 and at most 1 (which turns it off), is {share}")
    })
}

fn check_durations(settings: &Settings) -> Check {
    let Settings {
        worker,
        ec2,
        ssh,
        gatewayd,
        ..
    } = settings;
    let not_zero = [
        ("postgres.acquire_timeout", settings.postgres.acquire_timeout),
        ("worker.look_again", worker.look_again),
        ("worker.backoff_first", worker.backoff_first),
        ("worker.step_timeout", worker.step_timeout),
        ("dispatcher.period", settings.dispatcher.period),
        // With none, what one sweep marks the next one ends, however soon.
        ("sweep.grace", settings.sweep.grace),
        ("fault_budget.window", settings.fault_budget.window),
        ("ec2.poll", ec2.poll),
        ("ec2.send_for", ec2.send_for),
        // With none, a machine that EC2 does not show yet would count as gone.
        ("ec2.consistency_window", ec2.consistency_window),
        ("ssh.connect_timeout", ssh.connect_timeout),
        ("ssh.keepalive", ssh.keepalive),
        ("secrets.unwrap_timeout", settings.secrets.unwrap_timeout),
        (
            "secrets.wallet_copy_timeout",
            settings.secrets.wallet_copy_timeout,
        ),
        ("gatewayd.request_timeout", gatewayd.request_timeout),
        ("gatewayd.start_timeout", gatewayd.start_timeout),
        ("gatewayd.stop_timeout", gatewayd.stop_timeout),
        ("gatewayd.command_timeout", gatewayd.command_timeout),
        ("gatewayd.update_timeout", gatewayd.update_timeout),
        ("gatewayd.lock_timeout", gatewayd.lock_timeout),
        ("gatewayd.backup_timeout", gatewayd.backup_timeout),
    ];
    for (key, value) in not_zero {
        check_that(!value.is_zero(), key, || "must be longer than 0".into())?;
    }
    for (state, deadline) in deadlines(&settings.deadlines) {
        check_that(!deadline.is_zero(), &format!("deadlines.{state}"), || {
            "must be longer than 0".into()
        })?;
    }
    // Renewals come a few times in a lease, each a round trip to Postgres.
    let least = Duration::from_millis(500);
    check_that(worker.lease >= least, "worker.lease", || {
        format!(
            "must be at least {least:?}, is {:?}: a lease is renewed over the network while a step runs",
            worker.lease
        )
    })?;
    check_that(
        worker.backoff_longest >= worker.backoff_first,
        "worker.backoff_longest",
        || {
            format!(
                "must not be shorter than worker.backoff_first, which is {:?}; is {:?}",
                worker.backoff_first, worker.backoff_longest
            )
        },
    )
}

fn check_texts(settings: &Settings) -> Check {
    let present = [
        ("ssh.user", &settings.ssh.user),
        ("gatewayd.directory", &settings.gatewayd.directory),
        ("gatewayd.state_directory", &settings.gatewayd.state_directory),
        ("gatewayd.commands.get_key", &settings.gatewayd.commands.get_key),
        ("ec2.instance_type", &settings.ec2.instance_type),
    ];
    for (key, value) in present {
        check_that(!value.trim().is_empty(), key, || "must not be empty".into())?;
    }
    check_that(!settings.wallet.api_user.contains(':'), "wallet.api_user", || {
        "must not hold a colon: Basic auth ends the user's name there".into()
    })?;
    let ec2 = &settings.ec2;
    let images = [("ec2.ami", &ec2.ami)]
        .into_iter()
        .filter(|(_, ami)| !ami.is_empty());
    let images = images.chain(ec2.allowed_amis.iter().map(|ami| ("ec2.allowed_amis", ami)));
    for (key, ami) in images.chain(ec2.releases.values().map(|ami| ("ec2.releases", ami))) {
        check_that(ami.starts_with("ami-"), key, || {
            format!("\"{ami}\" is no AMI's id; one begins with ami-")
        })?;
    }
    for queue in &settings.worker.queues {
        check_that(Step::from_queue(queue).is_some(), "worker.queues", || {
            format!(
                "there is no queue \"{queue}\"; the queues are {}",
                Step::ALL.map(Step::queue).join(", ")
            )
        })?;
    }
    Ok(())
}

fn check_telemetry(settings: &Settings) -> Check {
    let log = &settings.telemetry.log;
    crate::telemetry::asked_filter(log).map_err(|error| {
        ConfigError::of(
            "telemetry.log",
            format!(
                "\"{log}\" is no log filter ({error}); it looks like \"info\" or \"info,ssh_worker=debug\""
            ),
        )
    })?;
    let endpoint = &settings.telemetry.otlp_endpoint;
    let uri = endpoint.parse::<http::Uri>();
    let readable = uri.is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some());
    check_that(endpoint.is_empty() || readable, "telemetry.otlp_endpoint", || {
        "must be the base URL of an OTLP/HTTP collector, as in http://127.0.0.1:4318; where traces must be \
         encrypted on their way, run a collector on this machine"
            .into()
    })?;
    let listen = &settings.health.listen;
    check_that(
        listen.is_empty() || listen.parse::<SocketAddr>().is_ok(),
        "health.listen",
        || format!("must be an address and a port, as in 127.0.0.1:8080 or [::]:8080, is \"{listen}\""),
    )
}

fn deadlines(deadlines: &Deadlines) -> impl Iterator<Item = (State, Duration)> {
    deadlines.all().into_iter()
}

impl Settings {
    /// The queues that a service takes: those configured, or all of its own.
    ///
    /// # Errors
    /// A configured queue is another service's.
    pub fn queues(&self, service: &str) -> Result<Vec<String>, ConfigError> {
        let own: Vec<String> = Step::ALL
            .into_iter()
            .filter(|step| step.worker() == service)
            .map(|step| step.queue().to_owned())
            .collect();
        // A service that takes no queue at all has no use for the setting, which may be in a shared file.
        if own.is_empty() || self.worker.queues.is_empty() {
            return Ok(own);
        }
        for queue in &self.worker.queues {
            check_that(own.contains(queue), "worker.queues", || {
                format!("{service} does not take \"{queue}\"; it takes {}", own.join(", "))
            })?;
        }
        Ok(self.worker.queues.clone())
    }

    /// What works and is likely to hurt; one sentence each, for the log.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let worker = &self.worker;
        let mut warn = |dangerous: bool, warning: String| {
            if dangerous {
                warnings.push(warning);
            }
        };
        warn(
            worker.lease < Duration::from_secs(5),
            format!(
                "worker.lease is {:?}: a pause that long hands a running step's row to another worker",
                worker.lease
            ),
        );
        warn(
            self.postgres.acquire_timeout >= worker.lease,
            format!(
                "postgres.acquire_timeout ({:?}) is not shorter than worker.lease ({:?}): one slow renewal loses the lease",
                self.postgres.acquire_timeout, worker.lease
            ),
        );
        warn(
            !self.testing.stop_at.is_empty(),
            "testing.stop_at is set: this process stops itself at those points; never set it on a real fleet"
                .into(),
        );
        warn(
            !self.testing.panic_at.is_empty(),
            "testing.panic_at is set: steps panic at those points; never set it on a real fleet".into(),
        );
        let gatewayd = &self.gatewayd;
        for (key, timeout) in [
            ("gatewayd.command_timeout", gatewayd.command_timeout),
            ("gatewayd.update_timeout", gatewayd.update_timeout),
            ("gatewayd.start_timeout", gatewayd.start_timeout),
            ("gatewayd.stop_timeout", gatewayd.stop_timeout),
            ("gatewayd.backup_timeout", gatewayd.backup_timeout),
        ] {
            warn(
                timeout > worker.step_timeout,
                format!(
                    "{key} ({timeout:?}) is longer than worker.step_timeout ({:?}): the step is given up while its command goes on",
                    worker.step_timeout
                ),
            );
        }
        for (state, deadline) in deadlines(&self.deadlines) {
            warn(
                deadline < worker.step_timeout,
                format!(
                    "deadlines.{state} ({deadline:?}) is shorter than worker.step_timeout ({:?}): a slow step parks its row",
                    worker.step_timeout
                ),
            );
        }
        warnings
    }

    /// Where the queues are, for the crate that speaks to them.
    pub fn resque(&self) -> resque::Config {
        resque::Config {
            url: self.redis.url.expose_secret().to_owned(),
            namespace: self.redis.namespace.clone(),
            ca_file: self.redis.ca_file.clone(),
            ..resque::Config::default()
        }
    }
}

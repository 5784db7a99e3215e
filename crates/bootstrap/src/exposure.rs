//! What could show a secret of this process to others: core dumps, other processes of its user, files, the network.

use std::net::IpAddr;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::keys::readable_by_others;
use crate::settings::{SECRET, Settings, variable};

/// Forbids core dumps of this process, and other processes of its user to trace it or to read its memory and environment.
/// Meant for the first line of a program, before any secret is read.
///
/// Not dumpable is the stronger half: a core pattern that is a pipe gets its dump in spite of a limit of 0.
///
/// # Errors
/// The system refuses, as a sandbox may.
pub fn keep_to_itself() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let limit = getrlimit(Resource::Core);
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            ..limit
        },
    )?;
    Ok(())
}

/// Takes [`keep_to_itself`] back, as far as the system's own limit goes: for debugging where no secret is real.
///
/// # Errors
/// The system refuses.
pub fn allow_core_dumps() -> std::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let limit = getrlimit(Resource::Core);
    setrlimit(
        Resource::Core,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )?;
    Ok(())
}

/// Credentials of AWS, as the SDK takes them from the environment.
const OF_AWS: [&str; 2] = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// One sentence for each way in which the settings show a secret to more than they must.
#[must_use]
pub fn warnings(settings: &Settings, file: Option<&Path>) -> Vec<String> {
    told(settings, file, |name| std::env::var(name).ok())
}

fn told(
    settings: &Settings,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let variables: Vec<String> = SECRET
        .iter()
        .map(|key| variable(key))
        .filter(|name| environment(name).is_some_and(|value| holds_secret(name, &value)))
        .collect();
    let of_aws = OF_AWS.map(|name| (name, environment(name).is_some_and(|value| !value.is_empty())));
    let mut warnings = network(settings);
    // Safe Rust cannot take a variable out of the environment that the system keeps of a process.
    let in_environment = |name: &str, place: &str| {
        format!(
            "{name} holds a secret: an environment is shown to whoever may look into this process, and is given to its \
             children; {place}"
        )
    };
    let place = "write it to the settings file (mode 600), and keys to the file that secrets.key_file names";
    warnings.extend(variables.iter().map(|name| in_environment(name, place)));
    let place = "use the role of the machine, or a file of mode 600 that AWS_SHARED_CREDENTIALS_FILE names";
    let of_aws = of_aws.iter().filter(|(_, set)| *set);
    warnings.extend(of_aws.map(|(name, _)| in_environment(name, place)));
    let in_file = secret_settings(settings)
        .iter()
        .any(|(key, holds)| *holds && !variables.contains(&variable(key)));
    if in_file {
        let told = file.and_then(readable_by_others);
        warnings.extend(told.map(|told| format!("the settings file holds a secret: {told}")));
    }
    if settings.secrets.core_dumps {
        warnings.push(
            "secrets.core_dumps is on: should this process die, its core dump holds every secret that it has in memory"
                .into(),
        );
    }
    warnings
}

/// Each setting of [`SECRET`], and whether it holds one.
fn secret_settings(settings: &Settings) -> [(&'static str, bool); SECRET.len()] {
    let url = |key: &'static str, url: &SecretString, password_file: &str| {
        // The password in the URL is that of the file: what loads the settings puts it there, and refuses a second one.
        let whole = password_file.is_empty() && holds_secret(key, url.expose_secret());
        (key, whole || url.expose_secret().contains(PASSWORD_PARAMETER))
    };
    let keys = |key: &'static str, keys: &SecretString| (key, holds_secret(key, keys.expose_secret()));
    let Settings {
        postgres,
        redis,
        secrets,
        ..
    } = settings;
    [
        url("postgres.url", &postgres.url, &postgres.password_file),
        url("redis.url", &redis.url, &redis.password_file),
        keys("secrets.keys", &secrets.keys),
        keys("secrets.wallet_keys", &secrets.wallet_keys),
        keys("secrets.backup_keys", &secrets.backup_keys),
    ]
}

fn network(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Ok(options) = settings.postgres.url.expose_secret().parse::<PgConnectOptions>() {
        let (host, mode) = (options.get_host(), options.get_ssl_mode());
        let local = options.get_socket().is_some() || is_here(host);
        match mode {
            _ if local => {}
            PgSslMode::VerifyFull => {}
            PgSslMode::Require | PgSslMode::VerifyCa => warnings.push(format!(
                "postgres.url: the connection to {host} is encrypted, but who answers there is not verified; use \
                 sslmode=verify-full&sslrootcert=FILE"
            )),
            _ => warnings.push(format!(
                "postgres.url: the connection to {host} need not be encrypted, so whoever is between can read and change all \
                 that goes over it; use sslmode=verify-full&sslrootcert=FILE"
            )),
        }
    }
    if let Some(address) = settings.resque().unprotected() {
        warnings.push(format!(
            "redis.url: the connection to {address} is not encrypted, or verifies nobody, so whoever is between can read and \
             change jobs and the password; use rediss:// (and redis.ca_file for an authority of your own)"
        ));
    }
    warnings
}

fn is_here(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || host.starts_with('/') || address.is_ok_and(|address| address.is_loopback())
}

/// A password may also stand behind a Postgres URL.
const PASSWORD_PARAMETER: &str = "password=";

/// Keys are secret; a URL is where it has a password.
fn holds_secret(key: &str, value: &str) -> bool {
    if key.to_lowercase().ends_with("keys") {
        return !value.is_empty();
    }
    let authority = value.split_once("://").map_or("", |(_, rest)| rest);
    let login = authority.rsplit_once('@').map_or("", |(login, _)| login);
    login
        .split_once(':')
        .is_some_and(|(_, password)| !password.is_empty())
        || value.contains(PASSWORD_PARAMETER)
}

#[cfg(test)]
mod tests;

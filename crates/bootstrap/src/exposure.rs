//! What could show a secret of this process to others: core dumps, other processes of its user, files, the network.

use std::net::IpAddr;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use secrecy::ExposeSecret as _;
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

/// One sentence for each way in which the settings show a secret to more than they must.
#[must_use]
pub fn warnings(settings: &Settings, file: Option<&Path>) -> Vec<String> {
    let variables: Vec<String> = SECRET
        .iter()
        .map(|key| variable(key))
        .filter(|name| std::env::var(name).is_ok_and(|value| holds_secret(name, &value)))
        .collect();
    let mut warnings = network(settings);
    // Safe Rust cannot take a variable out of the environment that the system keeps of a process.
    warnings.extend(variables.iter().map(|name| {
        format!(
            "{name} holds a secret: an environment is shown to whoever may look into this process, and is given to its \
             children; write it to the settings file (mode 600), and keys to the file that secrets.key_file names"
        )
    }));
    let from_file = |key: &str, value: &str| !variables.contains(&variable(key)) && holds_secret(key, value);
    let in_file = from_file("postgres.url", settings.postgres.url.expose_secret())
        || from_file("redis.url", settings.redis.url.expose_secret())
        || from_file("secrets.keys", settings.secrets.keys.expose_secret());
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
        || value.contains("password=")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn settings(postgres: &str, redis: &str) -> Settings {
        let mut settings = crate::settings::load(None).unwrap();
        settings.postgres.url = postgres.to_owned().into();
        settings.redis.url = redis.to_owned().into();
        settings
    }

    const LOCAL: &str = "redis://127.0.0.1";

    #[test]
    fn a_remote_postgres_without_verified_tls_is_a_warning_that_shows_no_password() {
        for (url, says) in [
            ("postgres://u:hunter2@db.example/d", "need not be encrypted"),
            (
                "postgres://u:hunter2@db.example/d?sslmode=prefer",
                "need not be encrypted",
            ),
            (
                "postgres://u:hunter2@10.0.0.9/d?sslmode=disable",
                "need not be encrypted",
            ),
            (
                "postgres://u:hunter2@db.example/d?sslmode=require",
                "is not verified",
            ),
            (
                "postgres://u:hunter2@db.example/d?sslmode=verify-ca",
                "is not verified",
            ),
        ] {
            let warnings = network(&settings(url, LOCAL));
            assert_eq!(warnings.len(), 1, "{url}: {warnings:?}");
            assert!(
                warnings[0].contains(says) && warnings[0].contains("verify-full"),
                "{warnings:?}"
            );
            assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
        }
        for url in [
            "postgres://u@127.0.0.1/d",
            "postgres://u@localhost/d",
            "postgres://u@[::1]/d",
            "postgres://u@%2Frun%2Fpostgresql/d",
            "postgres://u@db.example/d?sslmode=verify-full",
        ] {
            assert_eq!(network(&settings(url, LOCAL)), Vec::<String>::new(), "{url}");
        }
    }

    #[test]
    fn a_remote_redis_in_the_clear_is_a_warning() {
        let warnings = network(&settings(
            "postgres://u@127.0.0.1/d",
            "redis://:hunter2@redis.example",
        ));
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].contains("redis.example:6379") && warnings[0].contains("rediss://"),
            "{warnings:?}"
        );
        assert!(!warnings[0].contains("hunter2"));
    }

    #[test]
    fn a_settings_file_with_a_password_that_others_may_read_is_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode =
            |mode| std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let with = settings("postgres://u:hunter2@127.0.0.1/d", LOCAL);
        mode(0o644);
        let told = warnings(&with, Some(file.path()));
        assert!(
            told.iter()
                .any(|text| text.contains("holds a secret") && text.contains("chmod 600")),
            "{told:?}"
        );
        let without = settings("postgres://u@127.0.0.1/d", LOCAL);
        assert_eq!(warnings(&without, Some(file.path())), Vec::<String>::new());
        mode(0o600);
        assert_eq!(warnings(&with, Some(file.path())), Vec::<String>::new());
    }

    #[test]
    fn a_url_holds_a_secret_where_it_has_a_password() {
        for (url, secret) in [
            ("postgres://u@h/d", false),
            ("postgres://u:@h/d", false),
            ("postgres://u:p@h/d", true),
            ("postgres://h/d?user=u&password=p", true),
            ("redis://:p@h", true),
            ("redis://h:6379/0", false),
        ] {
            assert_eq!(holds_secret("postgres.url", url), secret, "{url}");
        }
        assert!(holds_secret("GATEWAYZEN_SECRETS__KEYS", "k1:AAAA") && !holds_secret("secrets.keys", ""));
    }
}

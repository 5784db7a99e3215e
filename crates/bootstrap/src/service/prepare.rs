//! What happens before anything is started: the arguments, the settings, and the files that they name.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args as _, Command, FromArgMatches as _};

use super::EXIT_CONFIG;
use crate::keys::Rings;
use crate::settings::{self, ConfigError, Settings};
use crate::{exposure, keys};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Settings file; without it the file that GATEWAYZEN_CONFIG names, or ./gatewayzen.toml if there is one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Check the settings, the files that they name and what only this service knows, say so in one line, and leave
    #[arg(long)]
    pub(super) check: bool,
    /// Ask the service that runs here with these settings whether it is ready, print its answer, and leave
    #[arg(long, conflicts_with = "check")]
    pub(super) ready: bool,
}

pub(super) fn arguments(name: &'static str) -> Result<Arguments, ExitCode> {
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
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) queues: Vec<String>,
    pub(super) rings: Rings,
    pub(super) warnings: Vec<String>,
}

/// Reads the settings, and once every file of secrets that this service needs, so that what is wrong shows now
/// and not at the first job.
pub(super) fn prepare(name: &str, arguments: &Arguments) -> Result<Prepared, ConfigError> {
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
    if name == "wallet-worker" {
        warnings.extend(keys::shared_with_wallets(secrets));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_worker_whose_wallets_have_no_keys_of_their_own_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let line = |id: &str| {
            let line = gatewayzen_core::seal::KeyRing::generate_line(id).unwrap();
            line.expose_str().unwrap().to_owned()
        };
        let told = |name: &str, more: &str| {
            let path = folder.path().join("gatewayzen.toml");
            std::fs::write(&path, format!("secrets.keys = \"{}\"\n{more}", line("k1"))).unwrap();
            let arguments = Arguments {
                config: Some(path),
                check: true,
                ready: false,
            };
            let warnings = prepare(name, &arguments).unwrap().warnings;
            warnings
                .iter()
                .any(|warning| warning.starts_with("secrets.wallet_key_file is empty: "))
        };
        assert!(told("wallet-worker", ""));
        assert!(!told("instance-worker", ""), "it has no business with them");
        let own = format!("secrets.wallet_keys = \"{}\"\n", line("w1"));
        assert!(!told("wallet-worker", &own));
    }
}

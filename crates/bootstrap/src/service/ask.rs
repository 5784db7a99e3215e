//! `--ready` and `--check`: asked, told, and over.

use std::future::Future;
use std::process::ExitCode;

use super::prepare::Arguments;
use super::{EXIT_CONFIG, EXIT_UNAVAILABLE, Error};
use crate::health;
use crate::settings::{self, ConfigError};

/// Asks the running service and tells its answer.
pub(super) fn ready(name: &str, arguments: &Arguments) -> ExitCode {
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
pub(super) fn checked(name: &str, check: impl Future<Output = Result<String, Error>>) -> ExitCode {
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

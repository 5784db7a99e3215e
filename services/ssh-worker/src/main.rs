//! The ssh-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_bootstrap::{ConfigError, GOOD, keys};
use gatewayzen_core::seal::KeyRing;
use ssh_worker::steps::SshSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main_with_check(
        "ssh-worker",
        async |settings| {
            let steps = steps(&settings, keys::key_ring(&settings.secrets)?)?;
            Ok(format!(
                "{GOOD}, and it logs in with the key {}",
                steps.fleet_key()
            ))
        },
        async |service| {
            let steps = steps(&service.settings, service.key_ring()?)?;
            tracing::info!(key = steps.fleet_key(), "logs in with this key");
            gatewayzen_worker::serve(service, steps).await
        },
    )
}

fn steps(settings: &Settings, sealing: KeyRing) -> Result<SshSteps, ConfigError> {
    let private_key = keys::read_private("ssh.key_file", &settings.ssh.key_file)?;
    SshSteps::new(settings, &private_key, sealing)
}

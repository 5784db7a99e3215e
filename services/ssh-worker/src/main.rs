//! The ssh-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;
use std::sync::Arc;

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_bootstrap::{ConfigError, GOOD, keys};
use gatewayzen_core::seal::KeyRing;
use ssh_worker::rotation::Rotator;
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
            let steps = Arc::new(steps(&service.settings, service.key_ring()?)?);
            tracing::info!(key = steps.fleet_key(), "logs in with this key");
            let rotator = Rotator::new(&service, steps.clone())?;
            // Ends with the service; what it leaves half done is begun again by another.
            tokio::spawn(service.shutdown.clone().run_until_cancelled_owned(rotator.run()));
            gatewayzen_worker::serve(service, steps).await
        },
    )
}

fn steps(settings: &Settings, sealing: KeyRing) -> Result<SshSteps, ConfigError> {
    let private_key = keys::read_private("ssh.key_file", &settings.ssh.key_file)?;
    let next = match settings.ssh.next_key_file.as_str() {
        "" => None,
        file => Some(keys::read_private("ssh.next_key_file", file)?),
    };
    let next = next.as_ref().map(|key| key.as_slice());
    SshSteps::new(settings, &private_key, next, sealing)
}

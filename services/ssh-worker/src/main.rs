//! The ssh-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use gatewayzen_bootstrap::keys;
use ssh_worker::steps::SshSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("ssh-worker", async |service| {
        let private_key = keys::read_private("ssh.key_file", &service.settings.ssh.key_file)?;
        let steps = SshSteps::new(&service.settings, &private_key, service.key_ring()?)?;
        tracing::info!(key = steps.fleet_key(), "logs in with this key");
        gatewayzen_worker::serve(service, steps).await
    })
}

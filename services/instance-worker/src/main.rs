//! The instance-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use instance_worker::client;
use instance_worker::steps::InstanceSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main_with_check(
        "instance-worker",
        async |settings| client::check(&settings.ec2.region).await,
        async |service| {
            let client = client::connect(&service.settings.ec2.region).await?;
            let steps = InstanceSteps::new(&service.settings, client, service.key_ring()?);
            gatewayzen_worker::serve(service, steps).await
        },
    )
}

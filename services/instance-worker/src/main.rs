//! The instance-worker's process: settings, logs, connections, jobs, drain.
// A sweep that waits for Redis is a future in a future more often than the compiler looks into by default.
#![recursion_limit = "256"]

use std::process::ExitCode;

use instance_worker::client;
use instance_worker::steps::InstanceSteps;
use instance_worker::sweep::Sweeper;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main_with_check(
        "instance-worker",
        async |settings| client::check(&settings.ec2.region).await,
        async |service| {
            let client = client::connect(&service.settings.ec2.region).await?;
            let steps = InstanceSteps::new(&service.settings, client, service.key_ring()?);
            let sweeper = Sweeper::new(&service, &steps)?;
            // Ends with the service; what it leaves half done is begun again by another.
            tokio::spawn(service.shutdown.clone().run_until_cancelled_owned(sweeper.run()));
            gatewayzen_worker::serve(service, steps).await
        },
    )
}

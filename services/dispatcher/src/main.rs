//! The dispatcher: finds rows whose step is due in Postgres and pushes their jobs to Redis. Any number may run.

mod dispatch;

use std::process::ExitCode;

use dispatch::Dispatcher;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("dispatcher", async |service| {
        let dispatcher = Dispatcher {
            repository: service.repository().await?,
            queue: service.queue().await?,
            owner: service.identity(),
            settings: service.settings.clone(),
        };
        dispatcher.run(&service.health, &service.shutdown).await;
        Ok(())
    })
}

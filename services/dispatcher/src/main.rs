//! The dispatcher: finds rows whose step is due in Postgres and pushes their jobs to Redis. Any number may run.

mod dispatch;
mod figures;
mod sweep;

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
        figures::measure(
            dispatcher.repository.clone(),
            dispatcher.queue.clone(),
            dispatcher.settings.dispatcher.period,
        );
        let sweeps = sweep::ask_on_period(
            dispatcher.repository.clone(),
            dispatcher.settings.sweep.every,
            dispatcher.owner.clone(),
        );
        tokio::spawn(service.shutdown.clone().run_until_cancelled_owned(sweeps));
        dispatcher.run(&service.health, &service.shutdown).await;
        Ok(())
    })
}

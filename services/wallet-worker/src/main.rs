//! The wallet-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use wallet_worker::step::WalletSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("wallet-worker", async |service| {
        let steps = WalletSteps::new(&service.settings, service.key_ring()?);
        gatewayzen_worker::serve(service, steps).await
    })
}

//! The wallet-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use wallet_worker::copies::Copies;
use wallet_worker::step::WalletSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("wallet-worker", async |service| {
        let copies = match service.settings.secrets.wallet_copies.as_str() {
            "" => None,
            place => Some(Copies::new(place, service.backup_ring()?)),
        };
        let steps = WalletSteps::new(
            &service.settings,
            service.key_ring()?,
            service.wallet_ring()?,
            copies,
        );
        gatewayzen_worker::serve(service, steps).await
    })
}

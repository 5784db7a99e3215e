//! The wallet-worker's process: settings, logs, connections, jobs, drain.

use std::process::ExitCode;

use wallet_worker::copies::{Carrier, Copies};
use wallet_worker::step::WalletSteps;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("wallet-worker", async |service| {
        let copies = match service.settings.secrets.wallet_copies.as_str() {
            "" => None,
            place => {
                let secrets = &service.settings.secrets;
                let carrier = Carrier {
                    command: secrets.wallet_copy_command.clone(),
                    limit: secrets.wallet_copy_timeout,
                };
                let carrier = Some(carrier).filter(|carrier| !carrier.command.is_empty());
                Some(Copies::new(place, service.backup_ring()?, carrier))
            }
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

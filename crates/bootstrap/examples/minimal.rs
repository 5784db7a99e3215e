//! The smallest service: connects, and waits until it is told to stop. With `HANG` set it does not stop, so that
//! a second signal can be tried.

use std::process::ExitCode;

fn main() -> ExitCode {
    gatewayzen_bootstrap::main("minimal", async |service| {
        if std::env::var_os("HANG").is_some() {
            service.shutdown.cancelled().await;
            std::future::pending::<()>().await;
        }
        service.repository().await?;
        service.queue().await?;
        service.shutdown.cancelled().await;
        Ok(())
    })
}

//! SIGTERM and SIGINT: the first drains, the second ends the process at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `token` at the first SIGTERM or SIGINT. At the second the process exits with 143 or 130, as a shell
/// shows a process that such a signal killed.
///
/// # Errors
/// The system refuses a handler.
pub(crate) fn on_signals(token: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let (name, _) = next(&mut terminate, &mut interrupt).await;
        tracing::info!("{name}: finishing what is in hand; a second signal ends at once");
        token.cancel();
        let (name, code) = next(&mut terminate, &mut interrupt).await;
        tracing::warn!(
            "a second signal, {name}: ending at once; what was in hand is taken up by another worker"
        );
        std::process::exit(code);
    });
    Ok(())
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> (&'static str, i32) {
    tokio::select! {
        _ = terminate.recv() => ("SIGTERM", 143),
        _ = interrupt.recv() => ("SIGINT", 130),
    }
}

//! Asks for a sweep on a period. The database sees to it that of any number of dispatchers one asks.

use std::time::Duration;

use gatewayzen_core::{Repository, crash};

/// The longest pause between two looks whether a sweep is due.
const LONGEST: Duration = Duration::from_secs(60);

/// Asks for a sweep `every` so often, for ever; never where it is zero.
pub(crate) async fn ask_on_period(repository: Repository, every: Duration, owner: String) {
    if every.is_zero() {
        return;
    }
    let mut down = false;
    loop {
        let asked = crash::around("ask_sweep", repository.ask_sweep_on_period(every, &owner));
        match crash::within("dispatcher", asked).await {
            Ok(asked) => {
                down = false;
                if let Some(sweep) = asked {
                    tracing::info!(sweep, "asked for a sweep");
                }
            }
            Err(error) => {
                if !down {
                    tracing::warn!(%error, "no sweep asked for; trying again");
                }
                down = true;
            }
        }
        tokio::time::sleep((every / 10).clamp(Duration::from_millis(100), LONGEST)).await;
    }
}

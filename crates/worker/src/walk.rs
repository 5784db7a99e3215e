//! The root of a walk's trace: the write in Postgres that began it, where no tracer is.

use gatewayzen_bootstrap::telemetry;
use gatewayzen_core::repository::HistoryEntry;
use gatewayzen_core::state::Mover;
use gatewayzen_core::{Repository, State};
use time::OffsetDateTime;

/// Exports the root span, from the write to now, after the step that ended the walk. Only that step can: its
/// outcome is written once, so there is one root. Does nothing where traces go nowhere.
pub(crate) async fn export_root(
    repository: &Repository,
    id: i64,
    name: &str,
    traceparent: &str,
    ended_in: State,
) {
    if !telemetry::exports_traces() {
        return;
    }
    // A trace without its root is still a trace: nothing else depends on it.
    let Ok(history) = repository.history(id).await else {
        return;
    };
    let Some(begun) = begun(&history) else { return };
    let attributes = [
        ("gatewayd.id", id.to_string()),
        ("gatewayd.name", name.to_owned()),
    ];
    telemetry::export_root(traceparent, format!("walk to {ended_in}"), begun, &attributes);
}

/// When the last external write of a state was made.
fn begun(history: &[HistoryEntry]) -> Option<OffsetDateTime> {
    let external = |entry: &&HistoryEntry| match (entry.event.as_str(), &entry.from_state) {
        ("created", _) => true,
        ("moved", Some(from)) => match (from.parse::<State>(), entry.to_state.parse::<State>()) {
            (Ok(from), Ok(to)) => from.mover(to) == Some(Mover::External),
            _ => false,
        },
        _ => false,
    };
    history.iter().rev().find(external).map(|entry| entry.at)
}

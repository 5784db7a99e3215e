//! Keeping a lease while its step, or its run over the whole fleet, goes on.

use std::time::Duration;

use gatewayzen_core::Repository;
use gatewayzen_core::repository::{Lease, LeaseCheck, RepositoryError};
use tokio::time::Instant;

/// Why a step must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Somebody wrote the row's state.
    Superseded,
    /// The lease expired, or is about to and could not be renewed.
    Lost,
}

/// Renews a lease until it cannot be kept, and says why.
///
/// Guards against the worker that is cut off from Postgres and works on: it returns before the lease can have
/// expired there, so that no second worker has the row while this one still acts on it.
pub(crate) async fn keep(repository: &Repository, lease: &Lease, length: Duration, taken: Instant) -> Ended {
    let margin = length / 6;
    let mut expires = taken + length;
    loop {
        tokio::time::sleep(length / 3).await;
        let asked = Instant::now();
        // A renewal that is not answered in time counts as none: it may hang on a dead connection.
        match tokio::time::timeout_at(expires - margin, repository.renew_lease(lease, length)).await {
            Ok(Ok(LeaseCheck::Held)) => expires = asked + length,
            Ok(Ok(LeaseCheck::Superseded)) => return Ended::Superseded,
            Ok(Ok(LeaseCheck::Lost)) => return Ended::Lost,
            Ok(Err(error)) => {
                tracing::warn!(gatewayd.id = lease.id, %error, "lease not renewed");
                if Instant::now() + length / 3 >= expires - margin {
                    tokio::time::sleep_until(expires - margin).await;
                    return Ended::Lost;
                }
            }
            Err(_) => return Ended::Lost,
        }
    }
}

/// Renews the lease of a run over the whole fleet, such as a sweep, until it cannot be kept, and says why.
///
/// Guards, as for a step, against the worker that is cut off from Postgres and works on: it returns before the lease can
/// have expired there.
pub async fn keep_run<R>(length: Duration, taken: Instant, renew: impl Fn() -> R) -> String
where
    R: Future<Output = Result<(), RepositoryError>>,
{
    let margin = length / 6;
    let mut expires = taken + length;
    loop {
        tokio::time::sleep(length / 3).await;
        let asked = Instant::now();
        match tokio::time::timeout_at(expires - margin, renew()).await {
            Ok(Ok(())) => expires = asked + length,
            // Somebody has the run's row for long, or Postgres is away for a moment.
            Ok(Err(error)) if error.is_outage() && Instant::now() + length / 3 < expires - margin => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "its lease could not be renewed in time".to_owned(),
        }
    }
}

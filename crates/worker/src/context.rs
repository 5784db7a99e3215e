//! What a step is given.

use gatewayzen_core::repository::Lease;
use gatewayzen_core::{Facts, Gatewayd, Repository, Step, StepError};

/// One step of one row, leased.
#[derive(Debug)]
pub struct StepContext {
    /// Which step.
    pub step: Step,
    /// The row as it was when the lease was taken.
    pub gatewayd: Gatewayd,
    /// This worker's right to it.
    pub lease: Lease,
    /// The database. Writes that concern the row take the lease.
    pub repository: Repository,
}

impl StepContext {
    /// Writes what the step found out to the row at once, before the step ends.
    pub async fn record(&self, facts: &Facts) -> Result<(), StepError> {
        self.repository
            .record_facts(&self.lease, facts)
            .await?
            .or_overtaken()
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> i32 {
        self.gatewayd.attempts
    }
}

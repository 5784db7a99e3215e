//! Figures of the whole fleet, for metrics.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Repository, Result};

/// The fleet at one moment, in numbers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Figures {
    /// Whether a halt is in force.
    pub halted: bool,
    /// Every state by its name, also where no row is in it.
    pub states: BTreeMap<String, StateFigures>,
    /// Machines that no row claims and that were marked, not ended, by a sweep.
    pub orphans: u64,
    /// Machines that sweeps have ended, ever.
    pub orphans_ended: u64,
    /// Machines of rows that the last sweep was not shown.
    pub missed: u64,
    /// The last sweep that acted.
    pub sweep: Option<SweepFigures>,
    /// Age of the oldest machine in use, in seconds, and with it of its certificate.
    pub oldest_identity: Option<f64>,
    /// Age of the fleet's SSH key in seconds, counted from its rotation or from the fleet's beginning.
    pub ssh_key: f64,
}

/// The rows of one state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct StateFigures {
    /// All.
    pub rows: u64,
    /// Of those, with a fault.
    pub parked: u64,
    /// Of those, on hold.
    pub held: u64,
    /// How long, in seconds, the longest that is neither has been in the state; `None` where there is none.
    pub oldest: Option<f64>,
    /// How long, in seconds, the longest has been waiting for a worker that takes its step; `None` where none waits.
    pub waiting: Option<f64>,
}

/// What the last sweep saw.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SweepFigures {
    /// When it ended, in seconds since 1970.
    pub ended: f64,
    /// Whether it came to nothing.
    pub failed: bool,
    /// Whether it did not act, or not in full.
    pub refused: bool,
    /// Living machines with the fleet's tag.
    pub machines: u64,
    /// Machines of whose launch the database knows nothing.
    pub unknown: u64,
    /// Rows whose machine was gone.
    pub gone: u64,
}

impl Repository {
    /// The figures as they are now. Reads the whole table once.
    pub async fn figures(&self) -> Result<Figures> {
        let sqlx::types::Json(figures) = sqlx::query_scalar("SELECT fleet_figures()")
            .fetch_one(&self.pool)
            .await?;
        Ok(figures)
    }
}

//! What a sweep sees and tells: the vocabulary between the instance-worker that does it, the database that judges it
//! (`migrations/0007_sweep.sql`), and whoever reads its report.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

/// A machine with the fleet's tag, as EC2 shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// EC2's id.
    pub instance_id: String,
    /// EC2's name of its state.
    pub state: String,
    /// When it was launched, or last started.
    #[serde(with = "rfc3339::option")]
    pub launched_at: Option<OffsetDateTime>,
    /// The row in its tags, whatever stands there.
    pub gatewayd_id: Option<String>,
    /// The row's name: the database's, else what stands in its tags.
    pub name: Option<String>,
    /// The launch attempt in its tags.
    pub attempt: Option<String>,
    /// The client token of its launch.
    pub client_token: Option<String>,
}

/// What a machine is to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A row's own, or a launch's that is not resolved yet.
    Claimed,
    /// The database knows nothing of its launch.
    Unknown,
    /// Its row is on hold.
    Held,
    /// A worker has its row in hand.
    Busy,
    /// Nobody's, for ever.
    Orphan,
}

/// The database's judgement of one machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Judged {
    /// EC2's id.
    pub instance_id: String,
    /// The name of its row.
    pub name: Option<String>,
    /// What it is.
    pub verdict: Verdict,
    /// Why it is that; `None` for a claimed one.
    pub why: Option<String>,
    /// Since when it is marked as an orphan.
    #[serde(with = "rfc3339::option")]
    pub marked_at: Option<OffsetDateTime>,
    /// Whether an earlier sweep marked it.
    pub marked_before: bool,
    /// For how long it is marked, in seconds.
    pub marked_for: Option<f64>,
}

/// The database's judgement of all machines that EC2 shows.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Comparison {
    /// Why no sweep may act just now, and what to do.
    pub refusal: Option<String>,
    /// Each machine.
    pub machines: Vec<Judged>,
}

/// What becomes of an orphan or a row whose machine is gone. In a dry run: what would become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is marked now, and looked at again by a later sweep.
    Marked,
    /// It was marked before, not yet long enough ago.
    Waits,
    /// Its end was due and EC2 was asked for it.
    Ended,
    /// The row is parked with a fault.
    Parked,
    /// Its turn had come, but more are due than one sweep may end.
    OverTheCap,
    /// The sweep may not act.
    Refused,
    /// At the last look the database had changed.
    Spared,
    /// It was tried and did not work.
    Failed,
}

/// A machine that no row claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// Why nobody claims it.
    pub why: String,
    /// Since when it is marked.
    #[serde(with = "rfc3339::option")]
    pub marked_at: Option<OffsetDateTime>,
    /// What becomes of it.
    pub fate: Fate,
    /// More of that, where there is more to say.
    pub note: Option<String>,
}

/// A machine that is let alone, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetAlone {
    /// The machine.
    #[serde(flatten)]
    pub machine: Machine,
    /// Why.
    pub why: String,
}

/// A row whose machine is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoneRow {
    /// `gatewayds.id`.
    pub id: i64,
    /// The row's name.
    pub name: String,
    /// The row's state.
    pub state: String,
    /// Its machine.
    pub instance_id: String,
    /// What EC2 says of it.
    pub why: String,
    /// What becomes of the row.
    pub fate: Fate,
}

/// What a sweep saw and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Living machines with the fleet's tag.
    pub machines: usize,
    /// Of those, claimed by a row or a launch.
    pub claimed: usize,
    /// How many machines this sweep may end.
    pub most: u32,
    /// Orphans whose end was due.
    pub due: usize,
    /// Why it did not act, or not in full, and what to do.
    pub refusal: Option<String>,
    /// Machines that no row claims.
    pub orphans: Vec<Orphan>,
    /// Machines that are let alone although no row claims them.
    pub let_alone: Vec<LetAlone>,
    /// Machines of whose launch the database knows nothing.
    pub unknown: Vec<LetAlone>,
    /// Rows whose machine is gone.
    pub gone: Vec<GoneRow>,
}

impl Report {
    /// How many orphans and rows have a fate.
    pub fn count(&self, fate: Fate) -> usize {
        let orphans = self.orphans.iter().filter(|orphan| orphan.fate == fate);
        orphans.count() + self.gone.iter().filter(|row| row.fate == fate).count()
    }
}

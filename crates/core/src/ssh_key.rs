//! What a run over the fleet's SSH key tells: the vocabulary between the ssh-worker that does it and whoever reads its
//! report.

use serde::{Deserialize, Serialize};

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Every host lets the new key in as well.
    Rotate,
    /// No host lets the old key in any more.
    Retire,
}

impl Act {
    /// The name in the database and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Act::Rotate => "rotate",
            Act::Retire => "retire",
        }
    }
}

/// What became of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was done, and seen by a login.
    Done,
    /// The row is on hold: it is let alone.
    Held,
    /// The machine is being built: its step `key` gives it the new key.
    BeingBuilt,
    /// A step had the row in hand for too long.
    Busy,
    /// It did not work; the sentence says why.
    Failed,
}

/// One host in the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    /// The row's name.
    pub name: String,
    /// The row's state.
    pub state: String,
    /// What became of it.
    pub fate: Fate,
    /// A sentence, where there is more to say.
    pub why: String,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Fingerprint of the key that goes.
    pub old_key: String,
    /// Fingerprint of the key that comes.
    pub new_key: String,
    /// Each host, by name.
    pub hosts: Vec<HostReport>,
}

impl Report {
    /// How many hosts have a fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.hosts.iter().filter(|host| host.fate == fate).count()
    }
}

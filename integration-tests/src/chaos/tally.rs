//! What the driver did, and what it saw that must not be.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts by name, and broken laws as they were seen.
#[derive(Default)]
pub(super) struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    broken: Mutex<Vec<String>>,
}

impl Tally {
    /// Counts something that was done.
    pub(super) fn count(&self, name: impl Into<String>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(name.into()).or_default() += 1;
    }

    /// Everything counted.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum of all whose name begins so.
    pub(super) fn sum(&self, prefix: &str) -> u64 {
        let counts = self.counts();
        let of = counts.iter().filter(|(name, _)| name.starts_with(prefix));
        of.map(|(_, count)| count).sum()
    }

    /// Notes that a law was broken.
    pub(super) fn broken(&self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        eprintln!("BROKEN: {sentence}");
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sentence);
    }

    /// What was noted.
    pub(super) fn all_broken(&self) -> Vec<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts the jobs of dead workers that this process has taken up. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Rescues(Arc<[AtomicU64; 2]>);

impl Rescues {
    /// Jobs that were put back to their queues.
    #[must_use]
    pub fn put_back(&self) -> u64 {
        self.of(false)
    }

    /// Jobs that were moved to the failed ones, since their workers died too often.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.of(true)
    }

    fn of(&self, given_up: bool) -> u64 {
        self.0[usize::from(given_up)].load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, given_up: bool) {
        self.0[usize::from(given_up)].fetch_add(1, Ordering::Relaxed);
    }
}

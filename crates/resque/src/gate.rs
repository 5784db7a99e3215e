use std::sync::Arc;

use tokio::{sync::watch, time::Instant};

/// Stops a worker from taking jobs while its surroundings are broken. Jobs in hand go on.
///
/// Clones are one gate. It opens by itself at the instant given.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<Option<Instant>>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes no job before `instant`, or not before the later of this and an earlier call's. A claim
    /// that is under way may still bring jobs.
    pub fn pause_until(&self, instant: std::time::Instant) {
        let instant = Instant::from_std(instant);
        self.0.send_if_modified(|until| {
            let later = until.is_none_or(|until| until < instant);
            if later {
                *until = Some(instant);
            }
            later
        });
    }

    /// Opens at once.
    pub fn open(&self) {
        self.0.send_replace(None);
    }

    /// Until when the gate is closed; `None` when it is open.
    #[must_use]
    pub fn paused_until(&self) -> Option<std::time::Instant> {
        self.closed_until().map(Instant::into_std)
    }

    fn closed_until(&self) -> Option<Instant> {
        self.0.borrow().filter(|until| *until > Instant::now())
    }

    /// Returns as soon as the gate is open.
    pub(crate) async fn opened(&self) {
        let mut changes = self.0.subscribe();
        while let Some(until) = self.closed_until() {
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                // Cannot fail: this gate holds the sender.
                _ = changes.changed() => {}
            }
        }
    }
}

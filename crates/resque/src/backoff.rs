use std::time::Duration;

/// Waits that grow from 50 ms to 2 s, each with jitter, so that many clients of a Redis that comes back
/// do not all knock at once.
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(Duration::from_millis(50))
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0.mul_f32(0.5 + 0.5 * fastrand::f32())).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(2));
    }
}

//! How a worker comes to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use crate::{
    Handler,
    beat::{give_back, unregister},
    slots::STOPPING,
    worker::Worker,
};

/// How long a stopping worker tries to reach Redis when its drain is over.
const FAREWELL: Duration = Duration::from_secs(5);

impl<H: Handler> Worker<H> {
    /// Lets the jobs in hand come to their end for as long as the drain lasts, and then stops them.
    pub(crate) async fn drain(&mut self) {
        let limit = self.config.drain;
        if self.slots.running + self.slots.ended.len() > 0 {
            info!(
                "stopping: {} jobs in hand have up to {limit:?} to end",
                self.slots.running
            );
        }
        let end = Instant::now() + limit;
        if timeout_at(end, self.all_ended()).await.is_ok() {
            return;
        }
        self.delivery.failed();
        if self.slots.running > 0 {
            warn!(
                "{} jobs did not end within {limit:?} and are given back to their queues",
                self.slots.running
            );
        }
        self.slots.stop_all();
        let stopped = Instant::now() + STOPPING;
        while self.slots.running > 0
            && let Ok(Some(report)) = timeout_at(stopped, self.reports.recv()).await
        {
            match report.outcome {
                // It came to its end just before it was stopped.
                Some(_) => self.slots.report(report),
                None => self.slots.forget(report.ticket),
            }
        }
        let _ = timeout(FAREWELL, self.all_told()).await;
    }

    async fn all_ended(&mut self) {
        while self.slots.running > 0 || !self.slots.ended.is_empty() {
            self.gather().await;
            let now = Instant::now();
            if now >= self.slots.look_at {
                self.slots.look(now);
            }
            // What an earlier step may have taken is not for this process any more.
            let recover_at = self.delivery.recover_at();
            if self.anything_to_tell() || now >= recover_at {
                if !self.step(false).await {
                    self.wait_to_repeat().await;
                }
                continue;
            }
            tokio::select! {
                Some(report) = self.reports.recv() => self.slots.report(report),
                () = sleep_until(self.slots.look_at.min(recover_at)) => {}
            }
        }
    }

    async fn all_told(&mut self) {
        while !self.slots.ended.is_empty() {
            if !self.step(false).await {
                self.wait_to_repeat().await;
            }
        }
    }

    /// Gives back what is left and removes the registration. Without Redis neither can be done: leases
    /// and silence then tell the other workers.
    pub(crate) async fn sign_off(&self) {
        let left = async {
            let jobs = give_back(&self.queue, self.ids.process()).await?;
            if jobs > 0 {
                info!("{jobs} jobs were given back to their queues");
            }
            unregister(&self.queue, self.ids.all()).await
        };
        if !matches!(timeout(FAREWELL, left).await, Ok(Ok(()))) {
            warn!(
                "stopped without Redis: the jobs that this worker held are taken up again when its lease has \
                 run out, and its registration goes when its silence is noticed"
            );
        }
    }
}

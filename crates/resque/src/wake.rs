//! Learns at once of a push, by any client, without asking again and again.
//!
//! For each named queue a connection of its own waits in `BLMOVE queue queue LEFT LEFT`: it moves the head
//! of the list to the head of the list. The job never leaves the queue, its order stays, and if this
//! process dies in the middle nothing has changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{aio::MultiplexedConnection, cmd};
use tokio::{sync::Notify, task::JoinSet};
use tracing::debug;

use crate::{Error, Queue, backoff::Backoff};

/// How long one wait blocks. Bounded, so that a connection that died in silence is noticed.
const BLOCK: Duration = Duration::from_secs(30);

pub(crate) struct Wake {
    woken: Arc<Notify>,
    waiters: Vec<Arc<Arm>>,
    _tasks: JoinSet<()>,
}

impl Wake {
    /// Waiters for the named ones among `queues`, idle until [`Self::arm`].
    pub(crate) fn new(queue: &Queue, queues: &[String]) -> Self {
        let mut wake = Self {
            woken: Arc::new(Notify::new()),
            waiters: Vec::new(),
            _tasks: JoinSet::new(),
        };
        for name in queues.iter().filter(|name| *name != "*") {
            let armed = Arc::new(Arm::default());
            let waiter = Waiter {
                queue: queue.clone(),
                key: queue.key(&format!("queue:{name}")),
                armed: armed.clone(),
                woken: wake.woken.clone(),
            };
            wake.waiters.push(armed);
            wake._tasks.spawn(waiter.run());
        }
        wake
    }

    /// Called when all queues were seen to be empty: from now on, a push to one of them wakes. Where a
    /// queue is not empty a waiter returns at once, so it is never left armed while the slots are busy.
    pub(crate) fn arm(&self) {
        for waiter in &self.waiters {
            if !waiter.armed.swap(true, Ordering::Relaxed) {
                waiter.notify.notify_one();
            }
        }
    }

    /// Returns when a queue may have a job.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }
}

/// Tells one waiter to wait.
#[derive(Default)]
struct Arm {
    /// Until it has seen a job.
    armed: AtomicBool,
    notify: Notify,
}

struct Waiter {
    queue: Queue,
    key: String,
    armed: Arc<Arm>,
    woken: Arc<Notify>,
}

impl Waiter {
    async fn run(self) {
        let mut connection = None;
        let mut backoff = Backoff::new();
        loop {
            self.armed.notify.notified().await;
            loop {
                match self.wait(&mut connection).await {
                    Ok(true) => {
                        backoff.reset();
                        self.armed.armed.store(false, Ordering::Relaxed);
                        self.woken.notify_one();
                        break;
                    }
                    Ok(false) => backoff.reset(),
                    Err(failure) => {
                        debug!(key = self.key, "cannot wait for jobs: {failure}");
                        connection = None;
                        backoff.wait().await;
                        // What was pushed while nobody waited is found by looking.
                        self.woken.notify_one();
                    }
                }
            }
        }
    }

    /// Waits for the queue to have a job; false when it had none for [`BLOCK`].
    async fn wait(&self, connection: &mut Option<MultiplexedConnection>) -> Result<bool, Error> {
        let open = match connection {
            Some(open) => open,
            None => connection.insert(self.queue.redis.blocking(BLOCK).await?),
        };
        let mut command = cmd("BLMOVE");
        command
            .arg(&self.key)
            .arg(&self.key)
            .arg("LEFT")
            .arg("LEFT")
            .arg(BLOCK.as_secs());
        let moved: Option<redis::Value> = command
            .query_async(open)
            .await
            .map_err(|failure| self.queue.redis.blocking_failed(&failure, BLOCK))?;
        Ok(moved.is_some())
    }
}

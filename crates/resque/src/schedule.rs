//! Promotes delayed jobs to their queues when they are due.

use std::time::Duration;

use redis::cmd;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    Error, Queue,
    backoff::Backoff,
    clock,
    connection::Request,
    scripts::{self, PROMOTE, SCHEDULE},
};

/// How many jobs one call of the script moves: few enough that Redis is not held up by it.
const BATCH: usize = 200;
/// The schedule is looked at this often while anything is in it. Other clients' pushes wake nobody.
const POLL: Duration = Duration::from_secs(1);
/// And this often while nothing is: less than one command a second.
const IDLE_POLL: Duration = Duration::from_millis(1500);
/// The server's clock is compared this often at least.
const CLOCK: Duration = Duration::from_secs(60);
/// How many entries of `failed` are kept when an entry is added here.
const FAILED_LIMIT: usize = 10_000;

/// Pushes delayed jobs to their queues, each when it is due by the server's clock, until `shutdown` is
/// cancelled. Keys: `delayed_queue_schedule`, `delayed:TS`, `timestamps:PAYLOAD`, `queues`, `queue:NAME`,
/// `failed`.
///
/// Any number of these may run at once, without a lock, beside those of Ruby and node-resque: a job leaves the
/// schedule and enters its queue in one step of Redis. Redis may come and go meanwhile.
///
/// A delayed job that is not JSON or names no queue goes to `failed`, its bytes kept.
pub async fn schedule(queue: Queue, shutdown: CancellationToken) {
    let mut backoff = Backoff::new();
    let mut trouble = None;
    let mut watch = Watch::default();
    while !shutdown.is_cancelled() {
        let wait = async {
            match watch.turn(&queue, &mut trouble).await {
                Ok(pause) => {
                    backoff.reset();
                    sleep(pause).await;
                }
                Err(failure) => {
                    if !failure.is_outage() {
                        complain(
                            &mut trouble,
                            format!("delayed jobs cannot be promoted: {failure}"),
                        );
                    }
                    watch = Watch::default();
                    backoff.wait().await;
                }
            }
        };
        tokio::select! {
            () = wait => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Queue {
    /// Pushes to their queues all delayed jobs that are due now by the server's clock, and says how many
    /// there were. Keys as [`schedule`].
    ///
    /// # Errors
    /// When Redis cannot be asked. What was promoted until then stays so.
    pub async fn promote_due(&self) -> Result<usize, Error> {
        let mut promoted = 0;
        loop {
            let batch = self.promote().await?;
            promoted += batch.moved;
            if batch.moved < BATCH {
                return Ok(promoted);
            }
        }
    }

    async fn promote(&self) -> Result<Batch, Error> {
        let mut call = scripts::call(&PROMOTE, &self.prefix);
        call.arg(BATCH).arg(FAILED_LIMIT).arg(clock::failed_at());
        let (moved, failed, now, next, trouble): (usize, usize, i64, i64, String) =
            self.redis.call(Request::Script(&call)).await?;
        if failed > 0 {
            warn!("{failed} delayed jobs were due and could not be queued; they are in the failed jobs");
        }
        Ok(Batch {
            moved,
            now,
            next: (next >= 0).then_some(next),
            trouble,
        })
    }
}

struct Batch {
    moved: usize,
    /// The server's clock, ms since 1970.
    now: i64,
    /// When the next job is due, likewise.
    next: Option<i64>,
    trouble: String,
}

/// Watches the schedule, one command for each look: the server's clock is reckoned from the last promotion.
#[derive(Default)]
struct Watch(Option<(Instant, i64)>);

impl Watch {
    /// Promotes what is due, if anything is, and says how long to wait.
    async fn turn(&mut self, queue: &Queue, trouble: &mut Option<String>) -> Result<Duration, Error> {
        if let Some((then, ms)) = self.0
            && then.elapsed() < CLOCK
        {
            let mut command = cmd("ZRANGE");
            command.arg(queue.key(SCHEDULE)).arg(0).arg(0).arg("WITHSCORES");
            let first: Vec<(Vec<u8>, f64)> = queue.redis.call(Request::Command(&command)).await?;
            let now = ms + i64::try_from(then.elapsed().as_millis()).unwrap_or(i64::MAX / 2);
            let next = first.first().map(|(_, second)| (second * 1000.0) as i64);
            if next.is_none_or(|next| next > now) {
                return Ok(pause(next, now));
            }
        }
        loop {
            let batch = queue.promote().await?;
            self.0 = Some((Instant::now(), batch.now));
            if batch.trouble.is_empty() {
                *trouble = None;
            } else {
                complain(
                    trouble,
                    format!(
                        "a list of delayed jobs cannot be read and is left out: {}",
                        batch.trouble
                    ),
                );
            }
            if batch.moved < BATCH {
                return Ok(if batch.trouble.is_empty() {
                    pause(batch.next, batch.now)
                } else {
                    POLL
                });
            }
        }
    }
}

fn pause(next: Option<i64>, now: i64) -> Duration {
    match next {
        // A millisecond more, as clocks are read in whole ones.
        Some(next) => Duration::from_millis(u64::try_from(next - now).unwrap_or(0) + 1).min(POLL),
        None => IDLE_POLL,
    }
}

fn complain(last: &mut Option<String>, text: String) {
    if last.as_ref() != Some(&text) {
        error!("{text}; trying again");
        *last = Some(text);
    }
}

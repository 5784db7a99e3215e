//! Crash points: the places at which a test kills a process.
//!
//! Every effect of a step, a dispatcher's round or a sweep, outside or in Postgres, is wrapped by [`around`], which names the moments before and after it. The
//! setting `testing.stop_at` makes the process that comes to such a moment stop itself there (SIGSTOP), so that a test can
//! kill it exactly there, or wake it up long after its lease is over; `testing.panic_at` makes it panic there. Without the setting a point does nothing. The
//! points are in release builds, since what is proved must be what is shipped.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

/// Empty for whoever is not under test.
static STOPS: OnceLock<Mutex<BTreeSet<String>>> = OnceLock::new();
static PANICS: OnceLock<Mutex<BTreeSet<String>>> = OnceLock::new();

/// Longer than the kernel takes to stop all threads of a process.
const STOP_TAKES: Duration = Duration::from_millis(200);

tokio::task_local! {
    static WORK: String;
}

/// Says where to stop, at each point once: `WORK:EFFECT:before` or `WORK:EFFECT:after`. To be called once, at the start.
pub fn stop_at(stops: Vec<String>) {
    if !stops.is_empty() {
        let _ = STOPS.set(Mutex::new(stops.into_iter().collect()));
    }
}

/// Says where to panic, at each point once, as [`stop_at`] does for stops. To be called once, at the start.
pub fn panic_at(panics: Vec<String>) {
    if !panics.is_empty() {
        let _ = PANICS.set(Mutex::new(panics.into_iter().collect()));
    }
}

/// Runs a piece of work, such as `42:key` for a step of row 42: it names the effects in it.
pub async fn within<T>(work: impl Into<String>, doing: impl Future<Output = T>) -> T {
    WORK.scope(work.into(), doing).await
}

/// Runs one effect of the work at hand.
pub async fn around<T>(effect: &str, doing: impl Future<Output = T>) -> T {
    point(effect, "before").await;
    let done = doing.await;
    point(effect, "after").await;
    done
}

async fn point(effect: &str, moment: &str) {
    let (stops, panics) = (STOPS.get(), PANICS.get());
    // Where nothing stops and nobody traces, a point costs no text.
    if stops.is_none() && panics.is_none() && !tracing::enabled!(tracing::Level::TRACE) {
        return;
    }
    let Ok(name) = WORK.try_with(|work| format!("{work}:{effect}:{moment}")) else {
        return;
    };
    tracing::trace!(point = name, "crash point");
    let meets = |points: Option<&Mutex<BTreeSet<String>>>| {
        points.is_some_and(|points| {
            points
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&name)
        })
    };
    #[allow(clippy::panic, reason = "what a test asks for")]
    if meets(panics) {
        panic!("panic on demand at the crash point {name}");
    }
    let met = meets(stops);
    if met {
        tracing::warn!(point = name, "stopped at a crash point");
        // Whoever waits for it may kill the process here, or let it go on long after its lease.
        if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP) {
            tracing::error!(%error, "cannot stop");
        }
        // Another thread may be the one that takes the signal: this one must not run on to the next point meanwhile.
        std::thread::sleep(STOP_TAKES);
    }
}

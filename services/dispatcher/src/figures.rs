//! What the dispatcher tells of the whole fleet: rows, queues, sweeps. Any number of dispatchers tell the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gatewayzen_bootstrap::telemetry::metrics::{self, KeyValue};
use gatewayzen_core::repository::{Figures, StateFigures};
use gatewayzen_core::{Repository, Step};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// Figures are looked up at most so often, however many ask.
const SHORTEST: Duration = Duration::from_secs(5);
/// How long Postgres, and how long Redis, may take to tell.
const LOOK: Duration = Duration::from_secs(2);
/// A worker that has been silent for longer does not count: Redis remembers those that were killed for a while.
const SILENT: Duration = Duration::from_secs(60);

/// What was seen at one look; `None` of what could not be asked, so that it shows as missing and not as zero.
#[derive(Default)]
struct Seen {
    fleet: Option<Figures>,
    queues: Option<Queues>,
}

struct Queues {
    /// Name, waiting jobs, slots of workers that listen on it.
    each: Vec<(&'static str, usize, usize)>,
    failed: usize,
}

/// Looks at Postgres and Redis when somebody asks for the metrics, and remembers for a while.
struct Looker {
    repository: Repository,
    queue: resque::Queue,
    keep: Duration,
    runtime: Handle,
    last: Mutex<Option<(Instant, Arc<Seen>)>>,
}

impl Looker {
    /// Blocks: it is called outside of the runtime.
    fn seen(&self) -> Arc<Seen> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, seen)) = last.as_ref()
            && at.elapsed() < self.keep
        {
            return seen.clone();
        }
        let seen = Arc::new(self.runtime.block_on(self.look()));
        *last = Some((Instant::now(), seen.clone()));
        seen
    }

    async fn look(&self) -> Seen {
        let (fleet, queues) = tokio::join!(
            timeout(LOOK, self.repository.figures()),
            timeout(LOOK, self.queues())
        );
        // What keeps the dispatcher from its work is logged by itself, and shown by gatewayzen_ready.
        Seen {
            fleet: fleet.ok().and_then(Result::ok),
            queues: queues.ok().and_then(Result::ok),
        }
    }

    async fn queues(&self) -> Result<Queues, resque::Error> {
        let workers = self.queue.workers().await?;
        let mut each = Vec::new();
        for step in Step::ALL {
            let name = step.queue();
            let listen = workers.iter().filter(|worker| {
                worker.listens_on(name) && worker.silent_for.is_none_or(|silent| silent < SILENT)
            });
            each.push((name, self.queue.len(name).await?, listen.count()));
        }
        let failed = self.queue.failed_count().await?;
        Ok(Queues { each, failed })
    }
}

/// Begins to tell.
pub(crate) fn measure(repository: Repository, queue: resque::Queue, period: Duration) {
    let looker = Arc::new(Looker {
        repository,
        queue,
        keep: period.max(SHORTEST),
        runtime: Handle::current(),
        last: Mutex::new(None),
    });
    rows(&looker);
    queues(&looker);
    sweeps(&looker);
    fleet(
        &looker,
        "gatewayzen.fleet.halted",
        "",
        "1 while the whole fleet is halted.",
        |fleet| Some(f64::from(u8::from(fleet.halted))),
    );
    fleet(
        &looker,
        "gatewayzen.fleet.ssh_key.age",
        "s",
        "Age of the key by which the workers log in to hosts: since its rotation, or since the fleet began.",
        |fleet| Some(fleet.ssh_key),
    );
    fleet(
        &looker,
        "gatewayzen.host.identity.oldest_age",
        "s",
        "Age of the oldest machine in use, and so of the oldest certificate and host key.",
        |fleet| fleet.oldest_identity,
    );
}

fn rows(looker: &Arc<Looker>) {
    type Of = fn(&StateFigures) -> Option<f64>;
    let each: [(&str, &str, &str, Of); 4] = [
        ("gatewayzen.rows", "", "Rows by state.", |state| {
            Some(state.rows as f64)
        }),
        (
            "gatewayzen.rows.parked",
            "",
            "Rows with a fault, which wait for a person.",
            |state| Some(state.parked as f64),
        ),
        ("gatewayzen.rows.held", "", "Rows on hold.", |state| {
            Some(state.held as f64)
        }),
        (
            "gatewayzen.rows.oldest_age",
            "s",
            "How long the longest row has been in its state, of those in a working state without a fault or hold.",
            |state| state.oldest,
        ),
    ];
    for (name, unit, help, of) in each {
        let looker = looker.clone();
        metrics::gauge(name, unit, help, move || {
            let seen = looker.seen();
            let states = seen.fleet.iter().flat_map(|fleet| &fleet.states);
            let values = states.filter_map(|(state, figures)| {
                // An idle state may be stood in for ever.
                let idle = state
                    .parse::<gatewayzen_core::State>()
                    .is_ok_and(|state| !state.is_working());
                let value = of(figures).filter(|_| !(idle && unit == "s"))?;
                Some((value, vec![KeyValue::new("state", state.clone())]))
            });
            values.collect::<Vec<_>>()
        });
    }
}

fn queues(looker: &Arc<Looker>) {
    type Of = fn(&(&'static str, usize, usize)) -> usize;
    let each: [(&str, &str, Of); 2] = [
        ("gatewayzen.queue.depth", "Jobs that wait in a queue.", |queue| {
            queue.1
        }),
        (
            "gatewayzen.queue.slots",
            "Slots of living workers, of this or another program, that listen on a queue.",
            |queue| queue.2,
        ),
    ];
    for (name, help, of) in each {
        let looker = looker.clone();
        metrics::gauge(name, "", help, move || {
            let seen = looker.seen();
            let each = seen.queues.iter().flat_map(|queues| &queues.each);
            let values = each.map(|queue| (of(queue) as f64, vec![KeyValue::new("queue", queue.0)]));
            values.collect::<Vec<_>>()
        });
    }
    let failed = looker.clone();
    metrics::gauge(
        "gatewayzen.failed_jobs",
        "",
        "Entries in Resque's list `failed`.",
        move || {
            let seen = failed.seen();
            seen.queues.as_ref().map(|queues| (queues.failed as f64, vec![]))
        },
    );
    // A job has no time. Its row has: since when it could have been taken.
    let looker = looker.clone();
    metrics::gauge(
        "gatewayzen.queue.oldest_job.age",
        "s",
        "How long the row that has waited longest for a worker of the queue could have been taken; 0 where none waits.",
        move || {
            let seen = looker.seen();
            let values = seen.fleet.iter().flat_map(|fleet| {
                Step::ALL.map(|step| {
                    let state = fleet.states.get(step.state().name());
                    let waiting = state.and_then(|state| state.waiting).unwrap_or(0.0);
                    (waiting.max(0.0), vec![KeyValue::new("queue", step.queue())])
                })
            });
            values.collect::<Vec<_>>()
        },
    );
}

fn sweeps(looker: &Arc<Looker>) {
    fleet(
        looker,
        "gatewayzen.orphans",
        "",
        "Machines that no row claims, marked by a sweep and not ended yet.",
        |fleet| Some(fleet.orphans as f64),
    );
    fleet(
        looker,
        "gatewayzen.orphans.ended",
        "",
        "Machines that sweeps have ended because no row claimed them, ever.",
        |fleet| Some(fleet.orphans_ended as f64),
    );
    fleet(
        looker,
        "gatewayzen.missed_machines",
        "",
        "Machines of rows that EC2 has not shown to the last sweep.",
        |fleet| Some(fleet.missed as f64),
    );
    fleet(
        looker,
        "gatewayzen.sweep.last_end.timestamp",
        "s",
        "When the last sweep that acts ended, in seconds since 1970.",
        |fleet| Some(fleet.sweep.as_ref()?.ended),
    );
    fleet(
        looker,
        "gatewayzen.sweep.last.not_in_full",
        "",
        "1 where the last sweep failed, or did not act in full.",
        |fleet| {
            let sweep = fleet.sweep.as_ref()?;
            Some(f64::from(u8::from(sweep.failed || sweep.refused)))
        },
    );
    fleet(
        looker,
        "gatewayzen.sweep.last.machines",
        "",
        "Living machines with the fleet's tag that the last sweep saw.",
        |fleet| Some(fleet.sweep.as_ref()?.machines as f64),
    );
    fleet(
        looker,
        "gatewayzen.sweep.last.unknown",
        "",
        "Machines of whose launch the database knew nothing at the last sweep.",
        |fleet| Some(fleet.sweep.as_ref()?.unknown as f64),
    );
    fleet(
        looker,
        "gatewayzen.sweep.last.gone",
        "",
        "Rows whose machine was gone at the last sweep.",
        |fleet| Some(fleet.sweep.as_ref()?.gone as f64),
    );
}

/// One number of the whole fleet.
fn fleet(
    looker: &Arc<Looker>,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    of: fn(&Figures) -> Option<f64>,
) {
    let looker = looker.clone();
    metrics::gauge(name, unit, help, move || {
        let seen = looker.seen();
        seen.fleet.as_ref().and_then(of).map(|value| (value, vec![]))
    });
}

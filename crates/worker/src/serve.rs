//! A worker from its connections to the end of its drain.

use std::time::{Duration, Instant};

use gatewayzen_bootstrap::{Error, Service};
use resque::{Gate, Rescues, WorkerConfig};

use crate::metrics::METRICS;
use crate::{Runner, RunnerSettings, Steps};

/// Each step has its own limit and an outage of Postgres is waited out: this only ends what hangs beside them.
const JOB_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How long, after the drain, a step that was given back may take to say so in Postgres.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Connects, takes the jobs of the service's queues until the service is told to stop, and drains.
///
/// # Errors
/// The configuration cannot work, or the service was told to stop before it was connected.
pub async fn serve<S: Steps>(service: Service, steps: S) -> Result<(), Error> {
    let (repository, queue) = (service.repository().await?, service.queue().await?);
    let worker = service.settings.worker.clone();
    let rescues = Rescues::default();
    let config = WorkerConfig {
        queues: service.queues.clone(),
        // Guards against the queue of one state that hanging hosts keep full, which would hold up all other states.
        take_turns: true,
        slots: worker.slots,
        job_timeout: JOB_TIMEOUT,
        drain: worker.drain + LAST_WORDS,
        rescues: rescues.clone(),
        ..WorkerConfig::default()
    };
    let gate = Gate::new();
    METRICS.begin(&service.queues, worker.slots, rescues, gate.clone());
    let paused = gate.clone();
    service.health.add_probe("worker", move || {
        let left = paused
            .paused_until()
            .map(|until| until.saturating_duration_since(Instant::now()));
        async move {
            match left {
                Some(left) => Err(format!(
                    "takes no job for {} s: its surroundings failed, see the log",
                    left.as_secs()
                )),
                None => Ok(()),
            }
        }
    });
    let settings = RunnerSettings {
        worker,
        deadlines: service.settings.deadlines.clone(),
    };
    let (shutdown, owner) = (service.shutdown.clone(), service.identity());
    let runner = Runner::new(
        steps,
        settings,
        repository,
        queue.clone(),
        gate.clone(),
        shutdown.clone(),
        owner,
    );
    resque::work(queue, config, runner, gate, shutdown).await?;
    Ok(())
}

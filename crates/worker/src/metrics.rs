//! What workers measure. No gatewayd's name or id is ever a label: the number of series must not grow with the fleet.

use std::sync::LazyLock;

use gatewayzen_bootstrap::telemetry::metrics::{self, Counter, Histogram, KeyValue, UpDownCounter};
use gatewayzen_core::Step;
use gatewayzen_core::repository::Verdict;
use resque::{Gate, Rescues};

pub(crate) static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

pub(crate) struct Metrics {
    pub(crate) jobs: Counter<u64>,
    pub(crate) steps: Histogram<f64>,
    pub(crate) in_hand: UpDownCounter<i64>,
    pub(crate) leases_lost: Counter<u64>,
    pub(crate) jobs_pushed: Counter<u64>,
    pub(crate) paused: Counter<f64>,
    pub(crate) https: Histogram<f64>,
}

impl Metrics {
    fn new() -> Self {
        Metrics {
            jobs: metrics::counter(
                "gatewayzen.jobs",
                "Jobs taken from a queue, by what their row said to them; `taken` is an attempt of a step.",
            ),
            steps: metrics::durations(
                "gatewayzen.step.duration",
                "How long steps took, by how they ended.",
            ),
            in_hand: metrics::up_down(
                "gatewayzen.steps.in_hand",
                "Steps that this process is taking just now.",
            ),
            leases_lost: metrics::counter(
                "gatewayzen.leases.lost",
                "Steps that were cut short because the row's lease was lost.",
            ),
            jobs_pushed: metrics::counter(
                "gatewayzen.jobs.pushed",
                "Jobs pushed to a queue by this process; one that was queued already does not count.",
            ),
            paused: metrics::meter()
                .f64_counter("gatewayzen.worker.paused")
                .with_unit("s")
                .with_description("How long this worker took no job because its surroundings failed.")
                .build(),
            https: metrics::durations(
                "gatewayzen.https.request.duration",
                "HTTPS requests to gatewayds, by method and by status, or by what kept them from having one.",
            ),
        }
    }

    /// Begins the series of a worker, at nothing: a rate knows no series that was not there before its first event.
    pub(crate) fn begin(&self, queues: &[String], slots: usize, rescues: Rescues, gate: Gate) {
        for step in queues.iter().filter_map(|queue| Step::from_queue(queue)) {
            let labels = [queue(step)];
            self.in_hand.add(0, &labels);
            self.leases_lost.add(0, &labels);
            self.jobs
                .add(0, &[queue(step), KeyValue::new("verdict", "taken")]);
        }
        self.paused.add(0.0, &[]);
        let slots = slots as f64;
        metrics::gauge(
            "gatewayzen.worker.slots",
            "",
            "How many steps this process may take at once.",
            move || [(slots, vec![])],
        );
        metrics::gauge(
            "gatewayzen.worker.is_paused",
            "",
            "1 while this worker takes no job because its surroundings failed.",
            move || [(f64::from(u8::from(gate.paused_until().is_some())), vec![])],
        );
        metrics::total(
            "gatewayzen.jobs.rescued",
            "",
            "Jobs of dead workers that this process took up: put back to their queue, or given up after too many deaths.",
            move || {
                let (put_back, given_up) = (rescues.put_back(), rescues.given_up());
                [("put_back", put_back), ("given_up", given_up)]
                    .map(|(result, count)| (count as f64, vec![KeyValue::new("result", result)]))
            },
        );
    }
}

/// The label of a step's metrics.
pub(crate) fn queue(step: Step) -> KeyValue {
    KeyValue::new("queue", step.queue())
}

/// What a row said to a job, as a label.
pub(crate) fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Taken(_) => "taken",
        Verdict::NoSuchRow => "no_such_row",
        Verdict::Stale => "stale",
        Verdict::Busy(_) => "busy",
        Verdict::NotYet(_) => "not_yet",
        Verdict::Held => "held",
        Verdict::Halted => "halted",
        Verdict::Parked => "parked",
        Verdict::Exhausted(_) => "exhausted",
    }
}

/// A step in hand, for as long as this lives: also where the step is cut short.
pub(crate) struct InHand(Step);

impl InHand {
    pub(crate) fn new(step: Step) -> InHand {
        METRICS.in_hand.add(1, &[queue(step)]);
        InHand(step)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        METRICS.in_hand.add(-1, &[queue(self.0)]);
    }
}

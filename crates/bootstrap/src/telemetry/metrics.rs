//! Metrics of this process: one set of instruments, read by a scrape as Prometheus's text, and sent to the collector where
//! one is configured.
//!
//! An instrument that is made before [`super::init`] counts nothing, for ever: make them in a `LazyLock`.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::global;
use opentelemetry_otlp::MetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use prometheus::{Registry, TextEncoder};

pub use opentelemetry::KeyValue;
pub use opentelemetry::metrics::{Counter, Histogram, Meter, UpDownCounter};

use super::process;

/// The form of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often metrics are sent to a collector.
const PERIOD: Duration = Duration::from_secs(15);

/// Upper bounds of the buckets of all durations, in seconds: from a call on a near network to a step's longest time.
const SECONDS: [f64; 14] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// Begins to measure. `exporter`: to whom the metrics are sent besides.
pub(super) fn begin(
    service: &'static str,
    exporter: Option<MetricExporter>,
) -> Result<SdkMeterProvider, String> {
    let registry = Registry::new();
    let scraped = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // Which service it is, a scrape knows from whom it asks.
        .scope_info_enabled(false)
        .without_target_info()
        .build()
        .map_err(|error| error.to_string())?;
    let mut provider = SdkMeterProvider::builder()
        .with_resource(super::resource(service))
        .with_reader(scraped);
    if let Some(exporter) = exporter {
        provider = provider.with_reader(PeriodicReader::builder(exporter).with_interval(PERIOD).build());
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    // Set already only where a test begins twice: then the first one stays.
    let _ = REGISTRY.set(registry);
    process::measure();
    Ok(provider)
}

/// Where instruments are made. Names have dots and no unit: `gatewayzen.step.duration` in `s` is scraped as
/// `gatewayzen_step_duration_seconds`, and a counter's name gets `_total`.
pub fn meter() -> Meter {
    global::meter("gatewayzen")
}

/// A counter.
pub fn counter(name: &'static str, help: &'static str) -> Counter<u64> {
    meter().u64_counter(name).with_description(help).build()
}

/// A number that goes up and down.
pub fn up_down(name: &'static str, help: &'static str) -> UpDownCounter<i64> {
    meter().i64_up_down_counter(name).with_description(help).build()
}

/// Durations in seconds.
pub fn durations(name: &'static str, help: &'static str) -> Histogram<f64> {
    meter()
        .f64_histogram(name)
        .with_unit("s")
        .with_description(help)
        .with_boundaries(SECONDS.to_vec())
        .build()
}

/// Something that is looked at whenever somebody asks for the metrics; `unit` is `s`, `By` or empty. What `read` leaves
/// out is not shown. It runs outside of the runtime, so it may block on it for a moment.
pub fn gauge<F, I>(name: &'static str, unit: &'static str, help: &'static str, read: F)
where
    F: Fn() -> I + Send + Sync + 'static,
    I: IntoIterator<Item = (f64, Vec<KeyValue>)>,
{
    // The SDK keeps the callback.
    let _ = meter()
        .f64_observable_gauge(name)
        .with_unit(unit)
        .with_description(help)
        .with_callback(move |seen| {
            read()
                .into_iter()
                .for_each(|(value, labels)| seen.observe(value, &labels))
        })
        .build();
}

/// As [`gauge`], for a number that only grows.
pub fn total<F, I>(name: &'static str, unit: &'static str, help: &'static str, read: F)
where
    F: Fn() -> I + Send + Sync + 'static,
    I: IntoIterator<Item = (f64, Vec<KeyValue>)>,
{
    // The SDK keeps the callback.
    let _ = meter()
        .f64_observable_counter(name)
        .with_unit(unit)
        .with_description(help)
        .with_callback(move |seen| {
            read()
                .into_iter()
                .for_each(|(value, labels)| seen.observe(value, &labels))
        })
        .build();
}

/// All metrics as Prometheus's text.
///
/// # Errors
/// Why there are none, in one sentence.
pub async fn text() -> Result<String, String> {
    let Some(registry) = REGISTRY.get() else {
        return Err("this process measures nothing".to_owned());
    };
    // Some instruments ask Postgres or Redis, and block on the answer.
    let gathered = tokio::task::spawn_blocking(|| TextEncoder::new().encode_to_string(&registry.gather()));
    match gathered.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

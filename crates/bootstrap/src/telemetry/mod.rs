//! Logs to stderr, metrics for whoever scrapes them, and traces and metrics to an OpenTelemetry collector.

mod log;
pub mod metrics;
mod otlp;
mod process;
mod trace;

use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{ConfigError, Telemetry as Settings};

pub(crate) use log::asked_filter;
pub use trace::{export_root, exports_traces, fail, send_span, set_parent, traceparent_of};

/// How long the last spans may take to leave when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Logs, metrics and traces of this process. Ends the export when told to; dropping it loses the last spans.
#[derive(Debug)]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    exports: bool,
}

/// Sets logs, metrics and traces up for the whole process, once. `runtime` sends what is exported, and must live until
/// [`Telemetry::shut_down`] has returned.
///
/// # Errors
/// `telemetry.log` is not a filter, or the exporter cannot be built.
pub fn init(
    service: &'static str,
    settings: &Settings,
    runtime: &tokio::runtime::Handle,
) -> Result<Telemetry, ConfigError> {
    let log = log::layer(service, settings)?;
    let bad = |error| ConfigError::of("telemetry.otlp_endpoint", error);
    let endpoint = settings.otlp_endpoint.as_str();
    let exports = !endpoint.is_empty();
    let (traces, exporter) = if exports {
        let traces = otlp::provider(service, endpoint, runtime).map_err(bad)?;
        opentelemetry::global::set_tracer_provider(traces.clone());
        trace::exports();
        (traces, Some(otlp::metrics(endpoint, runtime).map_err(bad)?))
    } else {
        // Nothing is recorded; but each span has its ids, by which log lines are found.
        (trace::ids_only(), None)
    };
    let metrics = metrics::begin(service, exporter).map_err(bad)?;
    // Fails only where a subscriber is set already, as in a test: then that one stays.
    let _ = tracing_subscriber::registry()
        .with(trace::layer(&traces))
        .with(log)
        .try_init();
    Ok(Telemetry {
        traces,
        metrics,
        exports,
    })
}

/// Who sends.
fn resource(service: &'static str) -> Resource {
    Resource::builder().with_service_name(service).build()
}

impl Telemetry {
    /// Sends what is left, for a few seconds at most. Blocks: call it outside of the runtime.
    pub fn shut_down(self) {
        if !self.exports {
            return;
        }
        if let Err(error) = self.traces.shutdown_with_timeout(FLUSH_LIMIT) {
            tracing::warn!("the last traces may be lost: {error}");
        }
        if let Err(error) = self.metrics.shutdown_with_timeout(FLUSH_LIMIT) {
            tracing::warn!("the last metrics may be lost: {error}");
        }
    }
}

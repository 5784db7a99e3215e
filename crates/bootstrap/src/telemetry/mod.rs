//! Logs to stderr, and traces to an OpenTelemetry collector.

mod log;
mod otlp;
mod trace;

use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{ConfigError, Telemetry as Settings};

pub use trace::{export_root, set_parent, traceparent_of};

/// How long the last spans may take to leave when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// Logs and traces of this process. Ends the export when told to; dropping it loses the last spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Sets logs and traces up for the whole process, once. `runtime` sends the traces, and must live until
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
    let provider = match settings.otlp_endpoint.as_str() {
        "" => None,
        endpoint => Some(
            otlp::provider(service, endpoint, runtime)
                .map_err(|error| ConfigError::of("telemetry.otlp_endpoint", error))?,
        ),
    };
    if let Some(provider) = &provider {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    let traces = provider.as_ref().map(trace::layer);
    // Fails only where a subscriber is set already, as in a test: then that one stays.
    let _ = tracing_subscriber::registry().with(traces).with(log).try_init();
    Ok(Telemetry { provider })
}

impl Telemetry {
    /// Sends what is left, for at most three seconds. Blocks: call it outside of the runtime.
    pub fn shut_down(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_LIMIT)
        {
            tracing::warn!("the last traces may be lost: {error}");
        }
    }
}

//! One trace for a walk: its context is the row's `traceparent`, in the form of W3C Trace Context.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, Sampler, SdkTracerProvider};
use tracing::field::Empty;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;

/// The name of the instrumentation, in every span.
const SCOPE: &str = "gatewayzen";

/// Spans of level INFO and above become spans of the trace, whatever the log shows.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SCOPE))
        .with_location(false)
        .with_threads(false)
        .with_filter(LevelFilter::INFO)
}

/// A provider whose spans have ids and are never recorded.
pub(super) fn ids_only() -> SdkTracerProvider {
    SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOff)
        .with_id_generator(Ids)
        .build()
}

static EXPORTS: AtomicBool = AtomicBool::new(false);

/// Says that spans go somewhere.
pub(super) fn exports() {
    EXPORTS.store(true, Ordering::Relaxed);
}

/// Whether spans of this process go anywhere.
pub fn exports_traces() -> bool {
    EXPORTS.load(Ordering::Relaxed)
}

/// Marks a client span as failed. `error_type` is one of few: a code, a status, the name of an error; never a text that may
/// hold anything. The span must have the fields `otel.status_code` and `error.type`, empty until now.
pub fn fail(span: &Span, error_type: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error_type);
}

/// The span of a job's push, a producer's by the conventions for messaging.
pub fn send_span(queue: &str, gatewayd: i64) -> Span {
    tracing::info_span!(
        "send",
        otel.name = format!("send {queue}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        "error.type" = Empty,
        "messaging.system" = "resque",
        "messaging.operation.name" = "send",
        "messaging.operation.type" = "send",
        "messaging.destination.name" = queue,
        gatewayd.id = gatewayd,
    )
}

/// Makes a span a child of the span that `traceparent` names. Call it before the span is first entered;
/// afterwards, or with a text that is no traceparent, it does nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    if let Some(parent) = parse(traceparent) {
        // Fails without an exporter or where the filter drops the span: then there is nothing to connect.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

/// The span as a traceparent, for those that come after it; `None` where spans have no ids, as in most tests.
pub fn traceparent_of(span: &Span) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| {
        let flags = context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    })
}

/// Exports the span that `traceparent` itself names: the root that every other span of the trace hangs from,
/// which began as a write in Postgres, where no tracer is. It lasts from `start` until now. Export it once for a
/// trace. Without an exporter, with a text that is no traceparent or one that is not sampled, it does nothing.
pub fn export_root(
    traceparent: &str,
    name: impl Into<String>,
    start: impl Into<SystemTime>,
    attributes: &[(&'static str, String)],
) {
    export_root_to(
        &global::tracer(SCOPE),
        traceparent,
        name.into(),
        start.into(),
        attributes,
    );
}

fn export_root_to(
    tracer: &impl Tracer,
    traceparent: &str,
    name: String,
    start: SystemTime,
    attributes: &[(&'static str, String)],
) {
    let Some(root) = parse(traceparent).filter(SpanContext::is_sampled) else {
        return;
    };
    let attributes = attributes
        .iter()
        .map(|(key, value)| KeyValue::new(*key, value.clone()));
    let span = SpanBuilder::from_name(name)
        .with_start_time(start)
        .with_attributes(attributes);
    GIVEN.set(Some((root.trace_id(), root.span_id())));
    let mut span = tracer.build_with_context(span, &Context::new());
    GIVEN.set(None);
    span.end();
}

thread_local! {
    /// The ids of the span that this thread makes next; random ones where there are none. The SDK has no other
    /// way to give a span its ids.
    static GIVEN: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, but for a span of [`export_root`].
#[derive(Debug)]
pub(super) struct Ids;

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        GIVEN
            .get()
            .map_or_else(|| RandomIdGenerator::default().new_trace_id(), |given| given.0)
    }

    fn new_span_id(&self) -> SpanId {
        GIVEN
            .get()
            .map_or_else(|| RandomIdGenerator::default().new_span_id(), |given| given.1)
    }
}

/// Reads `00-TRACE-SPAN-FLAGS`; the column's check admits nothing else.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 || parts.next().is_some()
    {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;

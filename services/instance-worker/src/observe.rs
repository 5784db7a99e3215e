//! Every call to EC2 as a span and in the metrics, by OpenTelemetry's conventions for the AWS SDK: one place for all calls.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aws_sdk_ec2::config::interceptors::{
    BeforeSerializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
    FinalizerInterceptorContextRef,
};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::{Storable, StoreReplace};
use gatewayzen_bootstrap::telemetry::{
    self,
    metrics::{self, Counter, Histogram, KeyValue},
};
use gatewayzen_core::sweep::{Fate, Report};
use tracing::Span;
use tracing::field::Empty;

/// The longest code of EC2 that is a label.
const CODE_MAX: usize = 60;

static CALLS: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    metrics::durations(
        "gatewayzen.ec2.call.duration",
        "Calls to EC2 with all their tries, by operation and by EC2's error code, `ok`, or why there was no answer.",
    )
});
static THROTTLES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    metrics::counter(
        "gatewayzen.ec2.throttles",
        "Tries that EC2 refused because the account asks too often, also where a later try went well.",
    )
});
static SWEEPS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    metrics::counter(
        "gatewayzen.sweeps",
        "Sweeps that this process ended: done, refused (not in full) or failed.",
    )
});

/// Watches the calls of a client.
#[derive(Debug)]
pub(crate) struct Observer(());

impl Observer {
    pub(crate) fn new() -> Observer {
        // A rate knows no series that was not there before its first event.
        for operation in ["RunInstances", "DescribeInstances", "TerminateInstances"] {
            THROTTLES.add(0, &[KeyValue::new("operation", operation)]);
        }
        for result in ["done", "refused", "failed"] {
            SWEEPS.add(0, &[KeyValue::new("result", result)]);
        }
        Observer(())
    }
}

/// Counts a sweep that this process has ended.
pub(crate) fn count_sweep(ended: Result<&Report, &str>) {
    let result = match ended {
        Ok(report) if report.refusal.is_some() => "refused",
        Ok(_) => "done",
        Err(_) => "failed",
    };
    if let Ok(report) = ended {
        let span = Span::current();
        span.record("gatewayzen.sweep.machines", report.machines);
        span.record("gatewayzen.sweep.ended", report.count(Fate::Ended));
    }
    SWEEPS.add(1, &[KeyValue::new("result", result)]);
}

/// A span as the conventions for the AWS SDK want it; none where there is nothing for it to hang from.
pub(crate) fn span(operation: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    tracing::info_span!(
        "ec2",
        otel.name = format!("EC2.{operation}"),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "rpc.system" = "aws-api",
        "rpc.service" = "EC2",
        "rpc.method" = operation,
        "server.address" = Empty,
        "server.port" = Empty,
        "http.response.status_code" = Empty,
        "aws.request_id" = Empty,
        "gatewayzen.shared" = Empty,
    )
}

/// A call under way.
#[derive(Debug)]
struct Call {
    operation: String,
    /// None where the call is shared by many steps: each of them has a span for what it asked.
    span: Span,
    begun: Instant,
    ended: AtomicBool,
}

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

impl Call {
    fn end(&self, result: &str) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        if result != "ok" {
            telemetry::fail(&self.span, result);
        }
        let labels = [
            KeyValue::new("operation", self.operation.clone()),
            KeyValue::new("result", result.to_owned()),
        ];
        CALLS.record(self.begun.elapsed().as_secs_f64(), &labels);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Its time was over, or the step was cut short: the SDK tells nobody of that.
        self.end("given_up");
    }
}

// An observer must not make a call fail, so no hook returns an error.
impl Intercept for Observer {
    fn name(&self) -> &'static str {
        "Observer"
    }

    // Not before the execution: by then it is not known which call it is.
    fn read_before_serialization(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = bag.load::<Metadata>().map_or("_OTHER", Metadata::name).to_owned();
        let call = Call {
            span: span(&operation),
            operation,
            begun: Instant::now(),
            ended: AtomicBool::new(false),
        };
        bag.interceptor_state().store_put(call);
        Ok(())
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(call), Ok(uri)) = (bag.load::<Call>(), context.request().uri().parse::<http::Uri>()) {
            call.span.record("server.address", uri.host());
            let port = uri
                .port_u16()
                .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
            call.span.record("server.port", port);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(call) = bag.load::<Call>()
            && context.output_or_error().is_some_and(|result| result.is_err())
            && code(context).is_some_and(|code| is_throttle(&code))
        {
            THROTTLES.add(1, &[KeyValue::new("operation", call.operation.clone())]);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(call) = bag.load::<Call>() else {
            return Ok(());
        };
        if let Some(response) = context.response() {
            call.span
                .record("http.response.status_code", response.status().as_u16());
            call.span
                .record("aws.request_id", response.headers().get("x-amzn-requestid"));
        }
        let result = match context.output_or_error() {
            Some(Ok(_)) => "ok".to_owned(),
            Some(Err(error)) if error.is_operation_error() => {
                code(context).unwrap_or_else(|| "no_code".to_owned())
            }
            Some(Err(error)) if error.is_timeout_error() => "timeout".to_owned(),
            Some(Err(error)) if error.is_connector_error() => "connect".to_owned(),
            Some(Err(error)) if error.is_response_error() => "bad_answer".to_owned(),
            // No credentials, say.
            _ => "not_sent".to_owned(),
        };
        call.end(&result);
        Ok(())
    }
}

/// EC2's error code. Whoever answers for EC2 may send anything: what is no code is none.
fn code(context: &FinalizerInterceptorContextRef<'_>) -> Option<String> {
    let body = context.response()?.body().bytes()?;
    let body = std::str::from_utf8(body).ok()?;
    let code = body.split_once("<Code>")?.1.split_once("</Code>")?.0;
    is_code(code).then(|| code.to_owned())
}

fn is_code(text: &str) -> bool {
    (1..=CODE_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "RequestThrottled"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_no_label() {
        assert!(is_code("InvalidAMIID.NotFound"));
        for text in ["", "two words", "<b>", &"x".repeat(61), "a\nb"] {
            assert!(!is_code(text), "{text}");
        }
    }
}

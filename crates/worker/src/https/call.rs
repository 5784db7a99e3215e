//! One request as a span and in the metrics, by OpenTelemetry's conventions for HTTP clients.

use std::time::Instant;

use gatewayzen_bootstrap::telemetry::{self, metrics::KeyValue};
use http::Method;
use tracing::Span;
use tracing::field::Empty;

use super::{HttpsError, PinnedClient, Request, Response};
use crate::metrics::METRICS;

pub(super) struct Call {
    pub(super) span: Span,
    method: Method,
    begun: Instant,
}

impl Call {
    /// Neither credentials nor bodies are told: a body may hold a key or a wallet.
    pub(super) fn begin(client: &PinnedClient, request: &Request<'_>) -> Call {
        let span = tracing::info_span!(
            "https",
            otel.name = format!("{} {}", request.method, request.path),
            otel.kind = "client",
            otel.status_code = Empty,
            "error.type" = Empty,
            "http.request.method" = %request.method,
            "http.response.status_code" = Empty,
            "server.address" = client.host,
            "server.port" = client.port,
            "url.full" = format!("https://{}{}", client.server(), request.path),
            "url.template" = request.path,
        );
        Call {
            span,
            method: request.method.clone(),
            begun: Instant::now(),
        }
    }

    pub(super) fn end(self, answer: &Result<Response, HttpsError>) {
        let result = match answer {
            Ok(response) => {
                let status = response.status.as_u16();
                self.span.record("http.response.status_code", status);
                let result = status.to_string();
                if status >= 400 {
                    telemetry::fail(&self.span, &result);
                }
                result
            }
            Err(error) => {
                telemetry::fail(&self.span, error.kind());
                error.kind().to_owned()
            }
        };
        let labels = [
            KeyValue::new("method", self.method.to_string()),
            KeyValue::new("result", result),
        ];
        METRICS.https.record(self.begun.elapsed().as_secs_f64(), &labels);
    }
}

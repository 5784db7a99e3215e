//! An OpenTelemetry collector of the test's own, on a socket.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who sent it.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Seen {
    /// An attribute as text; numbers too.
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.span.attributes, name)
    }

    /// The attribute `error.type`, where the span's status is an error.
    pub fn error(&self) -> Option<String> {
        const ERROR: i32 = 2;
        let failed = self
            .span
            .status
            .as_ref()
            .is_some_and(|status| status.code == ERROR);
        self.attribute("error.type").filter(|_| failed)
    }
}

/// What services have sent.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Its base URL.
    pub endpoint: String,
    spans: Arc<Mutex<Vec<Seen>>>,
    /// Service and metric.
    metrics: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Collector {
    /// Listens, until the test ends.
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let collector = Collector {
            endpoint: format!("http://{}", listener.local_addr().expect("an address")),
            spans: Arc::default(),
            metrics: Arc::default(),
        };
        let sink = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sink = sink.clone();
                let service = service_fn(move |request: http::Request<Incoming>| {
                    let sink = sink.clone();
                    async move {
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.expect("a body").to_bytes();
                        sink.take(&path, body);
                        Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new())))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        collector
    }

    fn take(&self, path: &str, body: Bytes) {
        match path {
            "/v1/traces" => {
                let request = ExportTraceServiceRequest::decode(body).expect("spans");
                for resource in request.resource_spans {
                    let service = service(resource.resource.as_ref());
                    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
                    lock(&self.spans).extend(spans.map(|span| Seen {
                        service: service.clone(),
                        span,
                    }));
                }
            }
            "/v1/metrics" => {
                let request = ExportMetricsServiceRequest::decode(body).expect("metrics");
                for resource in request.resource_metrics {
                    let service = service(resource.resource.as_ref());
                    let metrics = resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
                    lock(&self.metrics).extend(metrics.map(|metric| (service.clone(), metric.name)));
                }
            }
            other => panic!("nobody sends to {other}"),
        }
    }

    /// All spans of a trace until now.
    pub fn trace(&self, id: &[u8]) -> Vec<Seen> {
        lock(&self.spans)
            .iter()
            .filter(|seen| seen.span.trace_id == id)
            .cloned()
            .collect()
    }

    /// All spans until now.
    pub fn spans(&self) -> Vec<Seen> {
        lock(&self.spans).clone()
    }

    /// The metrics that a service has sent until now.
    pub fn metrics(&self, service: &str) -> BTreeSet<String> {
        let all = lock(&self.metrics);
        let own = all.iter().filter(|(name, _)| name == service);
        own.map(|(_, metric)| metric.clone()).collect()
    }
}

fn service(resource: Option<&Resource>) -> String {
    resource
        .and_then(|resource| attribute(&resource.attributes, "service.name"))
        .expect("a service's name")
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(yes) => Some(yes.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

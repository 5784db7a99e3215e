//! One walk is one trace: from the SQL write through the job of every service to `live`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use gatewayzen_core::State;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use integration_tests::harness::{Bed, Options, eventually};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

/// Spans with the service that sent each, as an OTLP/HTTP collector got them.
type Seen = Arc<Mutex<Vec<(String, Span)>>>;

/// A collector of the test's own; its base URL.
async fn collector() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let sink = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sink = sink.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let sink = sink.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    note(ExportTraceServiceRequest::decode(body).unwrap(), &sink);
                    Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::new())))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (endpoint, seen)
}

fn note(request: ExportTraceServiceRequest, sink: &Seen) {
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap().attributes;
        let name = attributes
            .into_iter()
            .find(|attribute| attribute.key == "service.name")
            .unwrap();
        let Some(Value::StringValue(service)) = name.value.unwrap().value else {
            panic!("not a text")
        };
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        sink.lock()
            .unwrap()
            .extend(spans.map(|span| (service.clone(), span)));
    }
}

#[tokio::test]
async fn a_walk_is_one_trace_from_the_sql_write_to_live() {
    let (endpoint, seen) = collector().await;
    let settings = format!("telemetry.otlp_endpoint = \"{endpoint}\"");
    let bed = Bed::new(Options {
        settings,
        ..Options::default()
    })
    .await;
    let _services = bed.start_all();
    let id = bed.launch("acme").await;
    let written = bed.row(id).await;
    let traceparent = written.traceparent.unwrap();
    let live = bed.reached(id, State::Live).await;
    assert_eq!(
        live.traceparent.as_deref(),
        Some(traceparent.as_str()),
        "the walk keeps its context"
    );

    let (trace, root) = (
        hex::decode(&traceparent[3..35]).unwrap(),
        hex::decode(&traceparent[36..52]).unwrap(),
    );
    let steps = [
        "initializeEc2Instance",
        "retrieveApiKey",
        "startGatewayd",
        "setColdWallet",
    ];
    let walk = eventually(
        "every step and the root of the walk to reach the collector",
        async || {
            let spans: Vec<(String, Span)> = seen
                .lock()
                .unwrap()
                .iter()
                .filter(|(_, span)| span.trace_id == trace)
                .cloned()
                .collect();
            let all = steps
                .iter()
                .all(|step| spans.iter().any(|(_, span)| span.name == *step));
            (all && spans.iter().any(|(_, span)| span.span_id == root)).then_some(spans)
        },
    )
    .await;

    for step in steps {
        let (service, span) = walk.iter().find(|(_, span)| span.name == step).unwrap();
        assert_eq!(service, gatewayzen_core::Step::from_queue(step).unwrap().worker());
        assert_eq!(span.parent_span_id, root, "{step} hangs from the SQL write");
    }
    let roots: Vec<&Span> = walk
        .iter()
        .map(|(_, span)| span)
        .filter(|span| span.span_id == root)
        .collect();
    assert_eq!(roots.len(), 1, "one root for one walk");
    assert!(roots[0].parent_span_id.is_empty());
    let begun = u128::from(roots[0].start_time_unix_nano) as i128;
    assert!(
        (begun - written.since.unix_timestamp_nanos()).abs() < 100_000_000,
        "it begins with the write"
    );
    for (service, span) in &walk {
        let connected =
            span.span_id == root || walk.iter().any(|(_, other)| other.span_id == span.parent_span_id);
        assert!(
            connected,
            "{} of {service} hangs from a span that nobody sent",
            span.name
        );
    }

    // Another walk of the same row is another trace.
    bed.write_state(id, State::Stop).await.unwrap();
    let stopped = bed.reached(id, State::Stopped).await;
    assert_ne!(stopped.traceparent.unwrap()[3..35], traceparent[3..35]);
}

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing_subscriber::layer::SubscriberExt as _;

use super::super::otlp;
use super::*;

const WALK: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A span as the collector got it.
#[derive(Debug)]
struct Seen {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    start: u64,
    attributes: Vec<String>,
}

/// An OTLP/HTTP collector of the test's own, on a socket.
async fn collector() -> (String, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            let service = service_fn(move |request: http::Request<Incoming>| {
                let sender = sender.clone();
                async move {
                    assert_eq!(request.uri().path(), "/v1/traces");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    spans(&ExportTraceServiceRequest::decode(body).unwrap(), &sender);
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

fn spans(request: &ExportTraceServiceRequest, sender: &mpsc::UnboundedSender<Seen>) {
    for resource in &request.resource_spans {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        let name = attributes
            .iter()
            .find(|attribute| attribute.key == "service.name")
            .unwrap();
        let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else {
            panic!("not a text")
        };
        for span in resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            let seen = Seen {
                service: service.clone(),
                name: span.name.clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                start: span.start_time_unix_nano,
                attributes: span
                    .attributes
                    .iter()
                    .map(|attribute| attribute.key.clone())
                    .collect(),
            };
            sender.send(seen).unwrap();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A service with an exporter of its own, which ends when `work` does.
async fn service(name: &'static str, endpoint: &str, work: impl FnOnce(&SdkTracerProvider)) {
    let provider = otlp::provider(name, endpoint, &tokio::runtime::Handle::current()).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer(&provider));
    tracing::subscriber::with_default(subscriber, || work(&provider));
    let end = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(10)));
    end.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_and_the_sql_write_are_one_connected_trace() {
    let (endpoint, mut seen) = collector().await;
    let written = SystemTime::now() - Duration::from_secs(5);
    let mut handed_on = None;
    service("dispatcher", &endpoint, |provider| {
        let attributes = [("gatewayd.name", "acme".to_owned())];
        export_root_to(
            &provider.tracer(SCOPE),
            WALK,
            "walk to live".into(),
            written,
            &attributes,
        );
        let span = tracing::info_span!("dispatch", gatewayd = 42);
        set_parent(&span, WALK);
        span.in_scope(|| handed_on = traceparent_of(&Span::current()));
    })
    .await;
    let handed_on = handed_on.unwrap();
    service("ssh-worker", &endpoint, |_| {
        let span = tracing::info_span!("retrieveApiKey");
        set_parent(&span, &handed_on);
        span.in_scope(|| tracing::info_span!("connect").in_scope(|| ()));
    })
    .await;

    let mut spans = Vec::new();
    while spans.len() < 4 {
        spans.push(
            tokio::time::timeout(Duration::from_secs(10), seen.recv())
                .await
                .unwrap()
                .unwrap(),
        );
    }
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let (root, dispatch) = (span("walk to live"), span("dispatch"));
    let (step, connect) = (span("retrieveApiKey"), span("connect"));
    for span in &spans {
        assert_eq!(span.trace, "0af7651916cd43dd8448eb211c80319c", "{span:?}");
    }
    assert_eq!((root.id.as_str(), root.parent.as_str()), ("b7ad6b7169203331", ""));
    assert_eq!(
        u128::from(root.start),
        written.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
    );
    assert_eq!(root.attributes, ["gatewayd.name"]);
    assert_eq!(dispatch.parent, root.id);
    assert_eq!(handed_on, format!("00-{}-{}-01", dispatch.trace, dispatch.id));
    assert_eq!(step.parent, dispatch.id);
    assert_eq!(connect.parent, step.id);
    assert_ne!(connect.id, step.id);
    assert_eq!(
        (dispatch.service.as_str(), step.service.as_str()),
        ("dispatcher", "ssh-worker")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_is_not_sampled_is_not_exported() {
    let (endpoint, mut seen) = collector().await;
    service("dispatcher", &endpoint, |provider| {
        let unsampled = WALK.replace("-01", "-00");
        export_root_to(
            &provider.tracer(SCOPE),
            &unsampled,
            "walk".into(),
            SystemTime::now(),
            &[],
        );
        export_root_to(
            &provider.tracer(SCOPE),
            "nonsense",
            "walk".into(),
            SystemTime::now(),
            &[],
        );
        let span = tracing::info_span!("dispatch");
        set_parent(&span, &unsampled);
        span.in_scope(|| ());
        tracing::info_span!("the only one").in_scope(|| ());
    })
    .await;
    assert_eq!(seen.recv().await.unwrap().name, "the only one");
    assert!(seen.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_no_end_up() {
    // Connections are made by the kernel; nobody ever takes them up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let provider = otlp::provider("dispatcher", &endpoint, &tokio::runtime::Handle::current()).unwrap();
    let subscriber = tracing_subscriber::registry().with(layer(&provider));
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("lost").in_scope(|| ()));
    let begun = std::time::Instant::now();
    let end = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_millis(300)));
    assert!(end.await.unwrap().is_err());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn without_an_exporter_there_is_no_context_and_nothing_fails() {
    let span = tracing::info_span!("step");
    set_parent(&span, WALK);
    assert_eq!(traceparent_of(&span), None);
    export_root(WALK, "walk", SystemTime::now(), &[]);
}

#[test]
fn only_a_traceparent_is_one() {
    assert!(parse(WALK).unwrap().is_sampled());
    for text in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-00",
    ] {
        assert!(parse(text).is_none(), "{text}");
    }
}

//! Export of traces and metrics over OTLP/HTTP.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;

use super::trace::Ids;

/// One export, its retries included.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// How long a span waits for company before it is sent.
const DELAY: Duration = Duration::from_secs(1);

/// Batches spans and sends them to the collector at `endpoint`, its base URL.
pub(super) fn provider(
    service: &'static str,
    endpoint: &str,
    runtime: &Handle,
) -> Result<SdkTracerProvider, String> {
    let endpoint = endpoint.trim_end_matches('/');
    let client = Client::new("traces", endpoint, runtime);
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| format!("the exporter cannot be built: {error}"))?;
    let batches = BatchSpanProcessor::builder(exporter)
        .with_batch_config(BatchConfigBuilder::default().with_scheduled_delay(DELAY).build())
        .build();
    Ok(SdkTracerProvider::builder()
        .with_span_processor(batches)
        .with_resource(super::resource(service))
        .with_id_generator(Ids)
        .build())
}

/// Sends metrics to the same collector.
pub(super) fn metrics(endpoint: &str, runtime: &Handle) -> Result<MetricExporter, String> {
    let endpoint = endpoint.trim_end_matches('/');
    MetricExporter::builder()
        .with_http()
        .with_http_client(Client::new("metrics", endpoint, runtime))
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}/v1/metrics"))
        .with_timeout(EXPORT_LIMIT)
        .build()
        .map_err(|error| format!("the exporter cannot be built: {error}"))
}

/// hyper's client, made fit for the exporter's own thread, where no reactor runs: requests are sent from the
/// service's runtime. Logs the beginning and the end of an outage, once each.
#[derive(Debug)]
struct Client {
    inner: HyperClient,
    runtime: Handle,
    /// What it sends.
    what: &'static str,
    endpoint: String,
    outage: AtomicBool,
}

impl Client {
    fn new(what: &'static str, endpoint: &str, runtime: &Handle) -> Client {
        Client {
            inner: HyperClient::with_default_connector(EXPORT_LIMIT, None),
            runtime: runtime.clone(),
            what,
            endpoint: endpoint.to_owned(),
            outage: AtomicBool::new(false),
        }
    }

    fn note(&self, failure: Option<String>) {
        let (what, endpoint) = (self.what, &self.endpoint);
        match failure {
            Some(reason) if !self.outage.swap(true, Ordering::Relaxed) => tracing::warn!(
                "{what} cannot be sent to {endpoint}: {reason}; they are dropped until it takes them; \
                 check telemetry.otlp_endpoint and the collector"
            ),
            None if self.outage.swap(false, Ordering::Relaxed) => {
                tracing::info!("{what} are sent to {endpoint} again");
            }
            _ => {}
        }
    }
}

impl HttpClient for Client {
    // The signature is what the trait's own macro makes of an `async fn`.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let inner = self.inner.clone();
        let sending = self.runtime.spawn(async move { inner.send_bytes(request).await });
        Box::pin(async move {
            let answer = match sending.await {
                Ok(answer) => answer,
                Err(ended) => Err(ended.into()),
            };
            self.note(match &answer {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("it answered {}", response.status())),
                Err(error) => Some(innermost(&**error)),
            });
            answer
        })
    }
}

/// The cause at the bottom: hyper's own texts ("client error (Connect)") do not say it.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::super::log::tests::Lines;
    use super::*;

    async fn send(client: &Client) {
        let request = Request::post(format!("{}/v1/traces", client.endpoint))
            .body(Bytes::new())
            .unwrap();
        // Its outcome is what the log says.
        let _ = client.send_bytes(request).await;
    }

    #[tokio::test]
    async fn an_outage_of_the_collector_is_one_line_and_its_end_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for status in [
                "200 OK", "503 Busy", "503 Busy", "503 Busy", "200 OK", "200 OK", "503 Busy",
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.writer())
            .with_ansi(false);
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let client = Client::new("traces", &endpoint, &Handle::current());
        for _ in 0..7 {
            send(&client).await;
        }
        send(&Client::new("traces", "http://127.0.0.1:1", &Handle::current())).await;

        let text = lines.text();
        let seen: Vec<&str> = text.lines().filter(|line| line.contains("traces")).collect();
        assert_eq!(seen.len(), 4, "{text}");
        assert!(
            seen[0].contains("cannot be sent to") && seen[0].contains("it answered 503"),
            "{text}"
        );
        assert!(
            seen[1].contains("are sent to") && seen[1].contains("again"),
            "{text}"
        );
        assert!(seen[2].contains("it answered 503"), "{text}");
        assert!(seen[3].contains("Connection refused"), "{text}");
    }
}

//! Asking a service for its metrics over HTTP.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_parse::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ServiceProcess, eventually};

/// One series: its labels and its value. A histogram's is the number of what it has seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// What a service said when it was asked for its metrics.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// As it came.
    pub text: String,
    /// The series of each metric, by its name.
    pub metrics: BTreeMap<String, Vec<Series>>,
}

impl ServiceProcess {
    /// Where its health page is served, once it is. Of two services of one name the first must listen before the second is
    /// started, or nobody knows whose address is whose.
    pub async fn health_address(&self) -> String {
        eventually(&format!("{} to listen", self.name), async || {
            let log = self.log_since_it_began();
            let (_, rest) = log.split_once("health on http://")?;
            Some(rest.split_once('/')?.0.to_owned())
        })
        .await
    }

    /// Asks for its metrics, over HTTP.
    pub async fn scrape(&self) -> Scrape {
        let address = self.health_address().await;
        let mut stream = tokio::net::TcpStream::connect(&address)
            .await
            .expect("a connection");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{answer}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        Scrape::parse(text)
    }
}

impl Scrape {
    /// Reads the exposition.
    pub fn parse(text: &str) -> Scrape {
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let parsed = prometheus_parse::Scrape::parse(lines).expect("Prometheus's text");
        let mut metrics: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        let mut values = 0;
        for sample in parsed.samples {
            let value = match &sample.value {
                Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => {
                    values += 1;
                    *value
                }
                Value::Histogram(buckets) => {
                    values += buckets.len();
                    buckets.iter().map(|bucket| bucket.count).fold(0.0, f64::max)
                }
                Value::Summary(_) => panic!("nothing here is a summary: {}", sample.metric),
            };
            let labels = sample
                .labels
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()));
            let name = match sample.value {
                Value::Histogram(_) => format!("{}_bucket", sample.metric),
                _ => sample.metric.clone(),
            };
            metrics.entry(name).or_default().push(Series {
                labels: labels.collect(),
                value,
            });
        }
        // The parser skips what it does not understand.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        assert_eq!(values, lines.count(), "a line that is none:\n{text}");
        Scrape {
            text: text.to_owned(),
            metrics,
        }
    }

    /// The sum of all series of a metric that have these labels; `None` where there is none.
    pub fn value(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let series = self.metrics.get(metric)?;
        let with = |series: &&Series| {
            labels
                .iter()
                .all(|(name, value)| series.labels.get(*name).is_some_and(|own| own == value))
        };
        let values: Vec<f64> = series.iter().filter(with).map(|series| series.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The labels that any series of a metric has.
    pub fn labels(&self, metric: &str) -> BTreeSet<&str> {
        let series = self.metrics.get(metric).into_iter().flatten();
        series
            .flat_map(|series| series.labels.keys().map(String::as_str))
            .collect()
    }

    /// Adds what another service said.
    pub fn extend(&mut self, other: Scrape) {
        for (name, series) in other.metrics {
            self.metrics.entry(name).or_default().extend(series);
        }
    }
}

//! The form of a log line.

use std::fmt;
use std::io::IsTerminal as _;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, ParseError, filter_fn};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer};

use crate::settings::{ConfigError, LogFormat, Telemetry as Settings};

type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// Log lines to stderr, as the settings want them.
pub(super) fn layer<S>(service: &'static str, settings: &Settings) -> Result<BoxedLayer<S>, ConfigError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let filter = filter(&settings.log)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match settings.log_format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            lines
                .with_ansi(colours)
                .with_timer(TimeAndService(service))
                .with_filter(filter)
                .boxed()
        }
        LogFormat::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines(service))
            .with_filter(filter)
            .boxed(),
    })
}

/// Libraries that show whole requests and packets below INFO: a launch's user data with the host's private key, an
/// API key, a wallet's address on its way.
const TALKATIVE: [&str; 5] = ["aws_", "h2", "hyper", "russh", "rustls"];

/// The filter that `telemetry.log` asks for.
pub(crate) fn asked_filter(asked: &str) -> Result<EnvFilter, ParseError> {
    // The library trims each directive and then cuts the untrimmed text: " ²=" is cut in the midst of a character, a panic.
    let directives: Vec<&str> = asked.split(',').map(str::trim).collect();
    EnvFilter::try_new(directives.join(","))
}

/// What was asked for, less what could show a secret: no setting, however exact its target, makes these libraries
/// say it.
fn filter<S: Subscriber>(asked: &str) -> Result<impl Filter<S> + use<S>, ConfigError> {
    let asked = asked_filter(asked)
        .map_err(|error| ConfigError::of("telemetry.log", format!("not a log filter: {error}")))?;
    let quiet = filter_fn(harmless).with_max_level_hint(LevelFilter::TRACE);
    // Whatever is asked for: a warning without the gatewayd that it is about helps nobody.
    let whose = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    Ok(asked.or(whose).and(quiet))
}

fn harmless(metadata: &Metadata<'_>) -> bool {
    // The more is shown, the greater the level.
    *metadata.level() <= Level::INFO
        || !TALKATIVE
            .iter()
            .any(|library| metadata.target().starts_with(library))
}

/// Puts the service's name after the time.
struct TimeAndService(&'static str);

impl FormatTime for TimeAndService {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(writer)?;
        write!(writer, " {}", self.0)
    }
}

/// One flat JSON object a line: what happened, in which trace, and all fields of the event and of the spans around it, under
/// the names that they have as attributes in the trace. An inner one wins.
struct JsonLines(&'static str);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Map::new();
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(formatted) = span.extensions().get::<FormattedFields<N>>() {
                fields.extend(object(&formatted.fields));
            }
        }
        let mut own = String::new();
        context.format_fields(Writer::new(&mut own), event)?;
        fields.extend(object(&own));
        // How a span shows in the trace, which is no fact of the line.
        fields.retain(|name, _| !name.starts_with("otel."));

        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let message = fields.remove("message").unwrap_or_default();
        let metadata = event.metadata();
        let mut head = vec![
            ("timestamp", Value::from(time)),
            ("level", metadata.level().as_str().into()),
            ("service", self.0.into()),
            ("message", message),
            ("target", metadata.target().into()),
        ];
        let around = Context::current();
        let around = around.span().span_context().clone();
        if around.is_valid() {
            head.push(("trace_id", around.trace_id().to_string().into()));
            head.push(("span_id", around.span_id().to_string().into()));
        }
        let head = head.into_iter().map(|(name, value)| (name.to_owned(), value));
        // A field of these names would make the line two things at once.
        fields.retain(|name, _| !["timestamp", "level", "service", "target"].contains(&name.as_str()));
        for (number, (name, value)) in head.chain(fields).enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            write!(writer, "{before}{}:{value}", Value::from(name))?;
        }
        writeln!(writer, "}}")
    }
}

/// Fields as [`JsonFields`] writes them.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_log_filter_is_taken_or_refused_whatever_blanks_stand_in_it() {
        for refused in ["info, ²=loud", " a = loud"] {
            assert!(asked_filter(refused).is_err(), "{refused}");
        }
        for taken in ["", " info , ssh_worker=debug ", " ²=", " ²=info", "\u{3000}info"] {
            assert!(asked_filter(taken).is_ok(), "{taken}");
        }
    }

    #[derive(Clone, Default)]
    pub(in super::super) struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        pub(in super::super) fn writer(&self) -> impl Fn() -> Lines + use<> {
            let lines = self.clone();
            move || lines.clone()
        }

        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_setting_makes_a_library_show_whole_requests() {
        for asked in [
            "trace",
            "aws_smithy_runtime=trace",
            "info,aws_smithy_runtime::client::orchestrator=trace,russh::client=debug",
            "[{request}]=trace",
            "off,aws_sdk_ec2[call]=trace",
        ] {
            let lines = Lines::default();
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(lines.writer())
                .with_filter(filter(asked).unwrap());
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
                let call =
                    tracing::trace_span!(target: "aws_sdk_ec2::client", "call", request = "PRIVATE KEY");
                let _entered = call.entered();
                tracing::trace!(target: "aws_smithy_runtime::client::orchestrator", "PRIVATE KEY");
                tracing::debug!(target: "russh::client", "PRIVATE KEY");
                tracing::debug!(target: "hyper_util::client", "PRIVATE KEY");
                tracing::info!(target: "aws_config", "an ordinary line");
                tracing::trace!(target: "instance_worker::launch", "our own");
            });
            let text = lines.text();
            assert!(!text.contains("PRIVATE KEY"), "{asked}: {text}");
            if asked == "trace" {
                assert!(
                    text.contains("an ordinary line") && text.contains("our own"),
                    "{text}"
                );
            }
        }
    }

    /// What is logged in JSON meanwhile, a line each.
    fn logged(filtered: &str, work: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.writer())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines("dispatcher"))
            .with_filter(filter(filtered).unwrap());
        let ids = super::super::trace::layer(&super::super::trace::ids_only());
        let subscriber = tracing_subscriber::registry().with(ids).with(layer);
        tracing::subscriber::with_default(subscriber, work);
        let text = lines.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_json_line_is_one_flat_object_with_its_trace_and_what_the_spans_around_it_know() {
        let lines = logged("info", || {
            let step = tracing::info_span!(
                "step",
                otel.name = "x",
                gatewayd.id = 42,
                outcome = tracing::field::Empty
            );
            super::super::set_parent(&step, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            step.in_scope(|| {
                step.record("outcome", "park");
                tracing::info_span!("call", gatewayd.id = 43)
                    .in_scope(|| tracing::warn!(attempt = 3, service = "another", "it \"hangs\""));
                tracing::info!("two\nlines");
            });
            tracing::info!("of no step");
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        let line = lines[0].as_object().unwrap();
        for (name, value) in [
            ("service", "dispatcher"),
            ("level", "WARN"),
            ("message", "it \"hangs\""),
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("outcome", "park"),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert_eq!((&line["attempt"], &line["gatewayd.id"]), (&3.into(), &43.into()));
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
        assert_ne!(line["span_id"], lines[1]["span_id"]);
        assert!(
            line.values().all(|value| !value.is_object()) && !line.contains_key("otel.name"),
            "{line:?}"
        );
        assert_eq!(lines[1]["gatewayd.id"], 42);
        assert!(
            !lines[2].as_object().unwrap().contains_key("trace_id"),
            "{:?}",
            lines[2]
        );
    }

    #[test]
    fn a_warning_says_whose_it_is_though_nothing_below_warnings_is_asked_for() {
        let lines = logged("warn", || {
            tracing::info_span!("step", gatewayd.id = 42).in_scope(|| {
                tracing::info!("not asked for");
                tracing::warn!("asked for");
            });
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(
            (&lines[0]["message"], &lines[0]["gatewayd.id"]),
            (&"asked for".into(), &42.into())
        );
    }
}

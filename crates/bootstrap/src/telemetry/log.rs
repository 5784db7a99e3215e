//! The form of a log line.

use std::fmt;
use std::io::IsTerminal as _;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
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
        LogFormat::Json => {
            let format = JsonLines {
                service,
                format: Format::default().json().flatten_event(true),
            };
            lines
                .fmt_fields(JsonFields::new())
                .event_format(format)
                .with_filter(filter)
                .boxed()
        }
    })
}

/// Libraries that show whole requests and packets below INFO: a launch's user data with the host's private key, an
/// API key, a wallet's address on its way.
const TALKATIVE: [&str; 5] = ["aws_", "h2", "hyper", "russh", "rustls"];

/// What was asked for, less what could show a secret: no setting, however exact its target, makes these libraries
/// say it.
fn filter<S: Subscriber>(asked: &str) -> Result<impl Filter<S> + use<S>, ConfigError> {
    let asked = EnvFilter::try_new(asked)
        .map_err(|error| ConfigError::of("telemetry.log", format!("not a log filter: {error}")))?;
    let quiet = filter_fn(harmless).with_max_level_hint(LevelFilter::TRACE);
    Ok(asked.and(quiet))
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

/// The usual JSON line with the service's name as one more field, in front.
struct JsonLines {
    service: &'static str,
    format: Format<Json>,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<Json>: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let rest = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"service\":{:?},{rest}", self.service)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

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

    #[test]
    fn a_json_line_is_one_object_with_the_service_and_the_span() {
        let lines = Lines::default();
        let format = JsonLines {
            service: "dispatcher",
            format: Format::default().json().flatten_event(true),
        };
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.writer())
            .fmt_fields(JsonFields::new())
            .event_format(format);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info_span!("step", gatewayd = 42)
                .in_scope(|| tracing::warn!(attempt = 3, "it \"hangs\""));
        });
        let text = lines.text();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["service"], "dispatcher");
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "it \"hangs\"");
        assert_eq!(line["attempt"], 3);
        assert_eq!(line["span"]["gatewayd"], 42);
    }
}

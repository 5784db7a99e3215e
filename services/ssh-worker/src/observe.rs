//! Connections and commands as spans and in the metrics. There are no conventions for SSH: what it shares with other protocols
//! has their names. Of a command only its name is told: neither its text nor what it printed.

use std::sync::LazyLock;
use std::time::Instant;

use gatewayzen_bootstrap::telemetry::{
    self,
    metrics::{self, Histogram, KeyValue, UpDownCounter},
};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::command::{Broken, End, Output};
use crate::remote;
use crate::session::ConnectError;

static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics {
    connects: metrics::durations(
        "gatewayzen.ssh.connect.duration",
        "SSH connections, from the first packet to the login, by result.",
    ),
    commands: metrics::durations(
        "gatewayzen.ssh.command.duration",
        "Commands on hosts, by their name and how they ended.",
    ),
    sessions: metrics::up_down(
        "gatewayzen.ssh.sessions",
        "SSH sessions that this process has open.",
    ),
});

struct Metrics {
    connects: Histogram<f64>,
    commands: Histogram<f64>,
    sessions: UpDownCounter<i64>,
}

/// Watches a connection being made.
pub(crate) async fn connecting<S>(
    address: &str,
    port: u16,
    connecting: impl Future<Output = Result<S, ConnectError>>,
) -> Result<S, ConnectError> {
    let span = tracing::info_span!(
        "ssh",
        otel.name = "ssh connect",
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "network.protocol.name" = "ssh",
        "server.address" = address,
        "server.port" = port,
    );
    let begun = Instant::now();
    let connected = connecting.instrument(span.clone()).await;
    let result = match &connected {
        Ok(_) => "ok",
        Err(ConnectError::Unreachable(_)) => "unreachable",
        Err(ConnectError::WrongHostKey { .. }) => "wrong_host_key",
        Err(ConnectError::Refused { .. }) => "refused",
    };
    end(&span, result);
    let labels = [KeyValue::new("result", result)];
    METRICS.connects.record(begun.elapsed().as_secs_f64(), &labels);
    connected
}

/// Watches a command.
pub(crate) async fn command(
    name: &'static str,
    address: &str,
    port: u16,
    running: impl Future<Output = Result<Output, Broken>>,
) -> Result<Output, Broken> {
    let span = tracing::info_span!(
        "ssh",
        otel.name = format!("ssh {name}"),
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        "network.protocol.name" = "ssh",
        "server.address" = address,
        "server.port" = port,
        command = name,
        "process.exit.code" = Empty,
    );
    let begun = Instant::now();
    let ran = running.instrument(span.clone()).await;
    if let Ok(Output {
        end: End::Exit(status),
        ..
    }) = &ran
    {
        span.record("process.exit.code", status);
    }
    let result = ended(&ran);
    end(&span, result);
    let labels = [KeyValue::new("command", name), KeyValue::new("result", result)];
    METRICS.commands.record(begun.elapsed().as_secs_f64(), &labels);
    ran
}

fn end(span: &Span, result: &'static str) {
    if result != "ok" {
        telemetry::fail(span, result);
    }
}

/// How a command ended, in one word.
fn ended(ran: &Result<Output, Broken>) -> &'static str {
    match ran {
        Ok(output) => match output.end {
            End::Exit(0) => "ok",
            End::Exit(remote::LOCK_BUSY) => "lock_busy",
            End::Exit(remote::OVERTAKEN) => "overtaken",
            End::Exit(remote::TIMED_OUT) => "timed_out",
            End::Exit(remote::KILLED) => "killed",
            End::Exit(_) => "failed",
            End::Signal(_) => "signal",
            End::Unknown => "no_status",
        },
        Err(Broken::Connection { .. }) => "connection_lost",
        Err(Broken::Flood { .. }) => "flood",
        Err(Broken::Refused(_)) => "refused",
        Err(Broken::NoAnswer(_)) => "no_answer",
    }
}

/// An open session, for as long as this lives.
pub(crate) struct Open(());

impl Open {
    pub(crate) fn new() -> Open {
        METRICS.sessions.add(1, &[]);
        Open(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        METRICS.sessions.add(-1, &[]);
    }
}

//! One connection to Redis, shared, and made again whenever it breaks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, ScriptInvocation,
    ServerErrorKind, aio::MultiplexedConnection,
};
use tracing::{error, info};

use crate::{Config, Error, server::Server};

/// What can be sent in one round trip.
pub(crate) enum Request<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptInvocation<'static>),
}

/// A handle on the server. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Redis(Arc<Inner>);

struct Inner {
    server: Server,
    address: String,
    connect_timeout: Duration,
    response_timeout: Duration,
    live: tokio::sync::Mutex<Live>,
    outage: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Live {
    /// Counts the connections, so that a late error of an old one does not close the new one.
    number: u64,
    connection: Option<MultiplexedConnection>,
    failed: Option<(Instant, Error)>,
}

impl Live {
    fn opened(&mut self, connection: &MultiplexedConnection) -> u64 {
        self.number += 1;
        self.connection = Some(connection.clone());
        self.number
    }
}

impl Redis {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let server = config.server()?;
        Ok(Self(Arc::new(Inner {
            address: server.to_string(),
            server,
            connect_timeout: config.connect_timeout,
            response_timeout: config.response_timeout,
            live: tokio::sync::Mutex::default(),
            outage: Mutex::new(None),
        })))
    }

    /// Makes the first connection. That it cannot be made is for the caller to tell, not for the log.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        let connection = self.open(self.0.response_timeout).await?;
        self.0.live.lock().await.opened(&connection);
        Ok(())
    }

    /// Sends a request. One that met a broken connection is sent once more on a new one, so it must be
    /// fit to be carried out twice.
    pub(crate) async fn call<T: FromRedisValue>(&self, request: Request<'_>) -> Result<T, Error> {
        self.send(request, true).await
    }

    /// Sends a request that must not be repeated as it is.
    pub(crate) async fn call_once<T: FromRedisValue>(&self, request: Request<'_>) -> Result<T, Error> {
        self.send(request, false).await
    }

    async fn send<T: FromRedisValue>(&self, request: Request<'_>, mut repeat: bool) -> Result<T, Error> {
        loop {
            let (number, mut connection) = self.connection().await?;
            let answer = match &request {
                Request::Command(command) => command.query_async(&mut connection).await,
                Request::Pipeline(pipeline) => pipeline.query_async(&mut connection).await,
                Request::Script(script) => script.invoke_async(&mut connection).await,
            };
            let failure = match answer {
                Ok(value) => {
                    self.recovered();
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            if must_reconnect(&failure) {
                self.discard(number).await;
                if failure.is_connection_dropped() && repeat {
                    repeat = false;
                    continue;
                }
            }
            return Err(self.failed(&failure, self.0.response_timeout));
        }
    }

    /// A connection of the caller's own, for a command that blocks for up to `block`.
    pub(crate) async fn blocking(&self, block: Duration) -> Result<MultiplexedConnection, Error> {
        let opened = self.open(block + self.0.response_timeout).await;
        opened.inspect_err(|failure| self.began(failure))
    }

    /// Turns an error of a connection from [`Self::blocking`] into ours, and notes an outage.
    pub(crate) fn blocking_failed(&self, failure: &RedisError, block: Duration) -> Error {
        self.failed(failure, block + self.0.response_timeout)
    }

    async fn connection(&self) -> Result<(u64, MultiplexedConnection), Error> {
        let asked = Instant::now();
        let mut live = self.0.live.lock().await;
        if let Some(connection) = &live.connection {
            return Ok((live.number, connection.clone()));
        }
        // Whoever waited here while an attempt failed takes its result, so that a crowd of callers does
        // not wait for one timeout after the other.
        if let Some((when, failure)) = &live.failed
            && *when >= asked
        {
            return Err(failure.clone());
        }
        match self.open(self.0.response_timeout).await {
            Ok(connection) => Ok((live.opened(&connection), connection)),
            Err(failure) => {
                self.began(&failure);
                live.failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    async fn open(&self, response_timeout: Duration) -> Result<MultiplexedConnection, Error> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.connect_timeout))
            .set_response_timeout(Some(response_timeout));
        let error = |reason| Error::Connection {
            address: self.0.address.clone(),
            reason,
        };
        let opening = async {
            let client = self.0.server.client().await?;
            client.get_multiplexed_async_connection_with_config(&config).await
        };
        // Sentinel, too, may be silent.
        let limit = self.0.connect_timeout * 2;
        match tokio::time::timeout(limit, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(failure)) if !failure.is_timeout() => Err(error(failure.to_string())),
            _ => Err(error(format!(
                "no connection within {:?}",
                self.0.connect_timeout
            ))),
        }
    }

    async fn discard(&self, number: u64) {
        let mut live = self.0.live.lock().await;
        if live.number == number {
            live.connection = None;
        }
    }

    fn failed(&self, failure: &RedisError, limit: Duration) -> Error {
        let address = self.0.address.clone();
        let reason = failure.to_string();
        let error = if failure.is_timeout() {
            Error::Timeout { address, limit }
        } else if must_reconnect(failure) || failure.is_io_error() {
            Error::Connection { address, reason }
        } else {
            Error::Refused { address, reason }
        };
        if error.is_outage() {
            self.began(&error);
        }
        error
    }

    /// Logs the beginning of an outage, once.
    fn began(&self, failure: &Error) {
        let mut outage = self.0.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if outage.is_none() {
            *outage = Some(Instant::now());
            error!(address = %self.0.address, "{failure}");
        }
    }

    fn recovered(&self) {
        let mut outage = self.0.outage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = outage.take() {
            let seconds = since.elapsed().as_secs_f32();
            info!(address = %self.0.address, "Redis at {} answers again after {seconds:.1} s", self.0.address);
        }
    }
}

/// Whether the connection is of no more use: broken, silent, or to a server that may not write any more
/// (which happens in a failover).
fn must_reconnect(failure: &RedisError) -> bool {
    failure.is_unrecoverable_error()
        || failure.is_timeout()
        || matches!(
            failure.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
            )
        )
}

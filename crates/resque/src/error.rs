use std::time::Duration;

/// What went wrong between this process and Redis.
///
/// Every text names the server's address and never its password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work. The text says which setting and what it must be.
    #[error("{0}")]
    Config(String),
    /// There is no connection: the server is not there, refuses the login, or the connection broke.
    #[error("Redis at {address} cannot be used: {reason}; check that it runs and that the URL is right")]
    Connection {
        /// Host and port, or the path of the socket.
        address: String,
        /// What the system or the server said.
        reason: String,
    },
    /// The server took the request and has not answered. Whether it was carried out is not known.
    #[error("Redis at {address} has not answered within {limit:?}; check its load and the network")]
    Timeout {
        /// Host and port, or the path of the socket.
        address: String,
        /// How long the request waited.
        limit: Duration,
    },
    /// The server answered with an error.
    #[error("Redis at {address} refused a request: {reason}")]
    Refused {
        /// Host and port, or the path of the socket.
        address: String,
        /// What the server said.
        reason: String,
    },
    /// The entry of `failed` is not there, or another took its place since it was read.
    #[error("failed entry {index} is gone or has changed; list the failed jobs again")]
    NoSuchEntry {
        /// The index asked for.
        index: usize,
    },
    /// The entry of `failed` holds nothing that can be queued.
    #[error("failed entry {index} cannot be queued again: {reason}")]
    NotAJob {
        /// The index asked for.
        index: usize,
        /// What is missing.
        reason: String,
    },
    /// The payload cannot be scheduled: no scheduler could push it to its queue.
    #[error("a job cannot be delayed unless it is a JSON object with a class: {reason}")]
    NotDelayable {
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether the same request may succeed once Redis is back, with nothing changed here.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Connection { .. } | Self::Timeout { .. })
    }
}

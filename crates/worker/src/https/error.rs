//! Why an HTTPS request has no answer.

use std::time::Duration;

use super::{Fingerprint, MAX_BODY};

/// Why there is no answer. Each names the server as `host:port`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpsError {
    /// Nobody listens there, the host is unreachable, or its name does not resolve.
    #[error("no connection to {server}: {source}")]
    Connect {
        /// The server that was called.
        server: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The connection or the TLS handshake took too long.
    #[error("{server} did not accept a connection within {after:?}")]
    ConnectTimeout {
        /// The server that was called.
        server: String,
        /// The limit that passed.
        after: Duration,
    },
    /// The server showed another certificate than the pinned one.
    #[error(
        "{server} shows the certificate {seen}, but the pinned one is {expected}: it is another host, or its certificate was replaced"
    )]
    NotPinned {
        /// The server that was called.
        server: String,
        /// The fingerprint in the row.
        expected: Fingerprint,
        /// The fingerprint of what the server showed.
        seen: Fingerprint,
    },
    /// The server showed the pinned certificate and could not sign with its key.
    #[error(
        "{server} shows the pinned certificate {pin}, but its signature is wrong: it does not have the private key"
    )]
    NotOwner {
        /// The server that was called.
        server: String,
        /// The pinned fingerprint.
        pin: Fingerprint,
    },
    /// The server showed the pinned certificate, and it is not one with which a signature can be checked.
    #[error(
        "{server} shows the pinned certificate {pin}, which is of no use ({reason}): it must be X.509 version 3"
    )]
    Unusable {
        /// The server that was called.
        server: String,
        /// The pinned fingerprint.
        pin: Fingerprint,
        /// What is wrong with it.
        reason: String,
    },
    /// The TLS handshake failed otherwise.
    #[error("the TLS handshake with {server} failed: {reason}")]
    Handshake {
        /// The server that was called.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The connection ended before the answer was complete. Whether the request had an effect is unknown.
    #[error("{server} closed the connection before its answer was complete ({reason})")]
    Closed {
        /// The server that was called.
        server: String,
        /// What was seen of it.
        reason: String,
    },
    /// The answer took too long. Whether the request had an effect is unknown.
    #[error("{server} did not answer within {after:?}")]
    AnswerTimeout {
        /// The server that was called.
        server: String,
        /// The limit that passed.
        after: Duration,
    },
    /// The answer is longer than [`MAX_BODY`].
    #[error("the answer of {server} is longer than {MAX_BODY} bytes")]
    TooLarge {
        /// The server that was called.
        server: String,
    },
    /// What came back is not HTTP, or the request could not be made.
    #[error("{server} does not speak HTTP/1.1: {reason}")]
    NotHttp {
        /// The server that was called.
        server: String,
        /// What went wrong.
        reason: String,
    },
}

impl HttpsError {
    /// Which of these it is, in one word for traces and metrics.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            HttpsError::Connect { .. } => "connect",
            HttpsError::ConnectTimeout { .. } => "connect_timeout",
            HttpsError::NotPinned { .. } => "not_pinned",
            HttpsError::NotOwner { .. } => "not_owner",
            HttpsError::Unusable { .. } => "unusable",
            HttpsError::Handshake { .. } => "handshake",
            HttpsError::Closed { .. } => "closed",
            HttpsError::AnswerTimeout { .. } => "answer_timeout",
            HttpsError::TooLarge { .. } => "too_large",
            HttpsError::NotHttp { .. } => "not_http",
        }
    }
}

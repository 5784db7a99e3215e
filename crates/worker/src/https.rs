//! A small HTTPS client that trusts one certificate and nothing else.
//!
//! A gatewayd's certificate is made on its host over the authenticated SSH channel, and its fingerprint is
//! kept in the row. So no authority, name or date is asked: the server must show exactly that certificate,
//! and must prove with the handshake's signature that it holds its private key. (Comparing fingerprints
//! alone would accept anybody who replays the certificate, which is public.)

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures_util::future::{Either, select};
use gatewayzen_core::seal::SecretBytes;
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, OtherError};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::Instrument as _;

use call::Call;
use pin::{Mismatch, PinVerifier};

mod call;
mod error;
mod pin;

pub use error::HttpsError;
pub use pin::{Fingerprint, NotAFingerprint};

/// The longest answer that is read, in bytes.
pub const MAX_BODY: usize = 64 * 1024;

/// How long the client waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the TCP connection and the TLS handshake together.
    pub connect: Duration,
    /// For one whole answer, once connected.
    pub answer: Duration,
}

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Path on the server, beginning with a slash.
    pub path: &'a str,
    /// Name for Basic authentication.
    pub user: &'a str,
    /// Password for Basic authentication.
    pub password: &'a SecretBytes,
    /// Body, sent as JSON.
    pub body: Option<&'a serde_json::Value>,
}

/// One complete answer. `Debug` shows the length of the body only, since it may hold a secret.
pub struct Response {
    /// HTTP status.
    pub status: StatusCode,
    /// The header `Content-Type`, empty where there is none.
    pub content_type: String,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("content_type", &self.content_type)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

/// A client of one server, known by its certificate. Each request has a connection of its own.
#[derive(Clone)]
pub struct PinnedClient {
    host: String,
    port: u16,
    pin: Fingerprint,
    timeouts: Timeouts,
    tls: TlsConnector,
}

impl fmt::Debug for PinnedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedClient({}, {:?})", self.server(), self.pin)
    }
}

impl PinnedClient {
    /// A client for `host` (a name or an address) that accepts the certificate with this fingerprint.
    ///
    /// # Errors
    /// The cryptography library offers no protocol version, which would be a fault of this build.
    pub fn new(
        host: impl Into<String>,
        port: u16,
        pin: Fingerprint,
        timeouts: Timeouts,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(PinVerifier {
            pin,
            provider: Arc::clone(&provider),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.enable_sni = false;
        // A resumed session shows no certificate: every handshake here is a whole one.
        config.resumption = Resumption::disabled();
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Self {
            host: host.into(),
            port,
            pin,
            timeouts,
            tls,
        })
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// There is no complete answer from the server that holds the pinned certificate.
    pub async fn request(&self, request: Request<'_>) -> Result<Response, HttpsError> {
        let call = Call::begin(self, &request);
        let answer = self.send(request).instrument(call.span.clone()).await;
        call.end(&answer);
        answer
    }

    async fn send(&self, request: Request<'_>) -> Result<Response, HttpsError> {
        let Timeouts { connect, answer } = self.timeouts;
        let stream = match timeout(connect, self.connect()).await {
            Ok(stream) => stream?,
            Err(_) => {
                return Err(HttpsError::ConnectTimeout {
                    server: self.server(),
                    after: connect,
                });
            }
        };
        match timeout(answer, self.exchange(stream, request)).await {
            Ok(response) => response,
            Err(_) => Err(HttpsError::AnswerTimeout {
                server: self.server(),
                after: answer,
            }),
        }
    }

    fn server(&self) -> String {
        // An IPv6 address needs its brackets.
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, HttpsError> {
        let refused = |source| HttpsError::Connect {
            server: self.server(),
            source,
        };
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(refused)?;
        // Requests are small and their answers are waited for: nothing is gained by delaying a packet.
        tcp.set_nodelay(true).map_err(refused)?;
        let name = ServerName::from(tcp.peer_addr().map_err(refused)?.ip());
        self.tls
            .connect(name, tcp)
            .await
            .map_err(|error| self.handshake_error(&error))
    }

    fn handshake_error(&self, error: &std::io::Error) -> HttpsError {
        let (server, pin) = (self.server(), self.pin);
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(certificate)) = cause else {
            return HttpsError::Handshake {
                server,
                reason: error.to_string(),
            };
        };
        match certificate {
            CertificateError::BadSignature => HttpsError::NotOwner { server, pin },
            CertificateError::Other(OtherError(other)) => match other.downcast_ref() {
                Some(Mismatch { seen }) => HttpsError::NotPinned {
                    server,
                    expected: pin,
                    seen: *seen,
                },
                None => HttpsError::Unusable {
                    server,
                    pin,
                    reason: other.to_string(),
                },
            },
            other => HttpsError::Unusable {
                server,
                pin,
                reason: other.to_string(),
            },
        }
    }

    async fn exchange(
        &self,
        stream: TlsStream<TcpStream>,
        request: Request<'_>,
    ) -> Result<Response, HttpsError> {
        let request = self.build(request)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.http_error(&error))?;
        match select(pin!(self.answer(sender, request)), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            // The connection has ended: the answer is in hand, or its own error says why it is not.
            Either::Right((_, answer)) => answer.await,
        }
    }

    fn build(&self, request: Request<'_>) -> Result<http::Request<Full<Bytes>>, HttpsError> {
        let failed = |reason: String| HttpsError::NotHttp {
            server: self.server(),
            reason,
        };
        let password = request.password.expose();
        let credentials = [request.user.as_bytes(), b":", password].concat();
        let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
        let mut authorization = HeaderValue::try_from(format!("Basic {encoded}"))
            .map_err(|_| failed("the credentials do not fit into a header".into()))?;
        authorization.set_sensitive(true);
        let body = request.body.map(ToString::to_string);
        let mut builder = http::Request::builder()
            .method(request.method)
            .uri(request.path)
            .header(HOST, self.server())
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close");
        if body.is_some() {
            builder = builder.header(CONTENT_TYPE, "application/json");
        }
        builder
            .body(Full::from(body.unwrap_or_default()))
            .map_err(|error| failed(error.to_string()))
    }

    async fn answer(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Response, HttpsError> {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.http_error(&error))?;
        let status = answer.status();
        let content_type = answer
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let body = Limited::new(answer.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|error| match error.downcast_ref::<hyper::Error>() {
                Some(error) => self.http_error(error),
                None if error.is::<LengthLimitError>() => HttpsError::TooLarge {
                    server: self.server(),
                },
                None => HttpsError::Closed {
                    server: self.server(),
                    reason: error.to_string(),
                },
            })?;
        Ok(Response {
            status,
            content_type,
            body: body.to_bytes().to_vec(),
        })
    }

    fn http_error(&self, error: &hyper::Error) -> HttpsError {
        let server = self.server();
        let mut reason = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            reason = format!("{reason}: {source}");
        }
        if error.is_parse() || error.is_user() {
            HttpsError::NotHttp { server, reason }
        } else {
            HttpsError::Closed { server, reason }
        }
    }
}

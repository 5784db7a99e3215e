//! The network of the hosts, and the plumbing that every server here shares.

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A network that this fleet alone uses: of 127.0.0.0/8, or a private one of which this machine has every address (as where
/// `ip route add local NETWORK dev lo` was said).
pub(super) struct Network {
    first: u32,
    size: u32,
    /// Holds the network's first address, so that a second fleet on the same network is refused.
    _claim: TcpListener,
}

impl Network {
    /// Takes the network asked for, or a free /16 or /24.
    pub(super) async fn claim(wanted: Option<&str>, port: u16) -> io::Result<Self> {
        if wanted == Some("/16") {
            // Below the /24s, so that the two never lie in each other.
            for _ in 0..100 {
                let first = u32::from(Ipv4Addr::new(127, fastrand::u8(2..64), 0, 0));
                if let Ok(network) = Self::bind(first, 1 << 16, port).await {
                    return Ok(network);
                }
            }
            return Err(io::Error::other(
                "no free /16 in 127.2.0.0 to 127.63.0.0 after 100 tries: name a network",
            ));
        }
        if let Some(text) = wanted {
            let (first, size) = parse(text).ok_or_else(|| {
                io::Error::other(format!(
                    "{text:?} is not a network of loopback or private addresses, such as 127.80.0.0/16, and not /16"
                ))
            })?;
            return Self::bind(first, size, port).await.map_err(|error| {
                let address = Ipv4Addr::from(first);
                io::Error::other(format!(
                    "network {text} cannot be claimed ({address} port {port}: {error}): if another simulated fleet has it, name another"
                ))
            });
        }
        // Not from the fleet's seed: fleets of one seed run side by side in tests.
        for _ in 0..100 {
            let first = u32::from(Ipv4Addr::new(127, fastrand::u8(128..255), fastrand::u8(..), 0));
            if let Ok(network) = Self::bind(first, 256, port).await {
                return Ok(network);
            }
        }
        Err(io::Error::other(
            "no free /24 in 127.128.0.0/9 after 100 tries: name a network",
        ))
    }

    async fn bind(first: u32, size: u32, port: u16) -> io::Result<Self> {
        let claim = TcpListener::bind((Ipv4Addr::from(first), port)).await?;
        Ok(Self {
            first,
            size,
            _claim: claim,
        })
    }

    /// The address at this offset; none for the claim, for .0 and .255, and past the end.
    pub(super) fn address(&self, offset: u32) -> Option<Ipv4Addr> {
        let address = Ipv4Addr::from(self.first.checked_add(offset)?);
        let ordinary = offset > 0 && offset < self.size && !matches!(address.octets()[3], 0 | 255);
        ordinary.then_some(address)
    }

    pub(super) fn offset(&self, address: Ipv4Addr) -> Option<u32> {
        u32::from(address)
            .checked_sub(self.first)
            .filter(|offset| self.address(*offset).is_some())
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}",
            Ipv4Addr::from(self.first),
            32 - self.size.trailing_zeros()
        )
    }
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u32>().ok()?);
    let size = 1_u32.checked_shl(32_u32.checked_sub(prefix)?)?;
    let whole = (8..=30).contains(&prefix) && u32::from(address) % size == 0;
    (whole && (address.is_loopback() || address.is_private())).then_some((u32::from(address), size))
}

/// Accepts until `stop`, then closes the port and cuts what is open.
pub(super) async fn serve<F>(listener: TcpListener, stop: &CancellationToken, connection: impl Fn(Line) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    let connection = connection(Line::new(stream, stop.child_token()));
                    open.spawn(stop.clone().run_until_cancelled_owned(connection));
                }
                // Out of file descriptors, most likely: accepting again at once would only spin.
                Err(error) => {
                    tracing::error!(%error, "the simulated fleet cannot accept; raise the limit of open files");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// A connection that can be cut, from here or with everything else of its host.
pub(super) struct Line {
    pub(super) stream: TcpStream,
    pub(super) cut: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn new(stream: TcpStream, cut: CancellationToken) -> Self {
        let waiting = Box::pin(cut.clone().cancelled_owned());
        Self { stream, cut, waiting }
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.waiting.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// An answer; `None` closes the connection without one.
pub(super) type Answer = Option<Response<Full<Bytes>>>;

/// Speaks HTTP/1.1 on a connection until it ends.
pub(super) async fn http<S, F>(stream: S, answer: impl Fn(Request<Bytes>) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let answer = &answer;
        async move {
            let body = Limited::new(body, 1 << 20)
                .collect()
                .await
                .map_err(|_| io::ErrorKind::InvalidData)?;
            let answer = answer(Request::from_parts(head, body.to_bytes())).await;
            answer.ok_or(io::Error::from(io::ErrorKind::ConnectionAborted))
        }
    });
    // An error here is a client that left, or a connection that a fault closed.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// An answer with a body of a type.
pub(super) fn reply(status: u16, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    }
    Some(response)
}

/// An answer in JSON.
pub(super) fn json(status: u16, value: &serde_json::Value) -> Answer {
    reply(status, "application/json; charset=utf-8", value.to_string())
}

//! A TCP proxy between the services and Postgres or Redis, which can refuse, hang and cut.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Lets everything through.
    Open,
    /// Refuses new connections.
    Refuse,
    /// Holds everything back, and lets it through late.
    Hang,
}

/// A running proxy; it ends when it is dropped.
pub(super) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    open: Mutex<CancellationToken>,
    _stop: DropGuard,
}

impl Proxy {
    /// A proxy on a free port of loopback to another port there.
    ///
    /// # Errors
    /// No port can be had.
    pub(super) async fn start(target: u16) -> io::Result<std::sync::Arc<Proxy>> {
        let listener = TcpListener::bind(("127.0.0.1", super::super::harness::free_port().await)).await?;
        let stop = CancellationToken::new();
        let proxy = std::sync::Arc::new(Proxy {
            port: listener.local_addr()?.port(),
            mode: watch::Sender::new(Mode::Open),
            open: Mutex::new(stop.child_token()),
            _stop: stop.clone().drop_guard(),
        });
        // A weak one, so that the proxy ends with its last owner.
        let weak = std::sync::Arc::downgrade(&proxy);
        let mode = proxy.mode.subscribe();
        tokio::spawn(stop.run_until_cancelled_owned(accept(listener, proxy.port, target, mode, weak)));
        Ok(proxy)
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Changes what it does from now on.
    pub(super) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Cuts every open connection.
    pub(super) fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.cancel();
        *open = CancellationToken::new();
    }

    fn token(&self) -> CancellationToken {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

async fn accept(
    mut listener: TcpListener,
    port: u16,
    target: u16,
    mut mode: watch::Receiver<Mode>,
    proxy: std::sync::Weak<Proxy>,
) {
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            drop(listener);
            if mode.wait_for(|mode| *mode != Mode::Refuse).await.is_err() {
                return;
            }
            listener = loop {
                match TcpListener::bind(("127.0.0.1", port)).await {
                    Ok(listener) => break listener,
                    // Somebody has the port for a moment, as the near end of a connection.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
        }
        let stream = tokio::select! {
            _ = mode.changed() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, most likely: accepting again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let Some(token) = proxy.upgrade().map(|proxy| proxy.token()) else {
            return;
        };
        tokio::spawn(token.run_until_cancelled_owned(connection(stream, target, mode.clone())));
    }
}

async fn connection(client: TcpStream, target: u16, mut mode: watch::Receiver<Mode>) {
    if mode.wait_for(|mode| *mode != Mode::Hang).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // The one that ends takes the other along: both sides see the end of the connection.
    tokio::select! {
        () = pump(from_client, to_server, mode.clone()) => {}
        () = pump(from_server, to_client, mode) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let through = mode.wait_for(|mode| *mode != Mode::Hang).await.is_ok();
        if !through || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_proxy_lets_through_hangs_cuts_and_refuses() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let at = ("127.0.0.1", proxy.port());
        let mut stream = TcpStream::connect(at).await.unwrap();
        assert_eq!(ask(&mut stream).await.unwrap(), b'x');
        proxy.set(Mode::Hang);
        stream.write_all(b"y").await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        assert!(silent.is_err(), "nothing comes through");
        proxy.set(Mode::Open);
        assert_eq!(stream.read_u8().await.unwrap(), b'y', "it comes late");
        proxy.set(Mode::Refuse);
        while TcpStream::connect(at).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&mut stream).await.unwrap(), b'x', "what is open goes on");
        proxy.cut();
        assert!(stream.read_u8().await.is_err(), "it is cut");
        proxy.set(Mode::Open);
        let mut again = loop {
            match TcpStream::connect(at).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(ask(&mut again).await.unwrap(), b'x');
    }
}

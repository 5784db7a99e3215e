//! A TLS server that shows what it is told to show, and answers as it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::{Fingerprint, HttpsError, PinnedClient, Request, Response, Timeouts};
use http::Method;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

pub(crate) const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(20),
    answer: Duration::from_secs(20),
};
pub(crate) const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        Self::of(CertificateParams::new(vec!["gatewayd".to_owned()]).unwrap())
    }

    pub(crate) fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

/// Shows a certificate and signs with a key that need not belong to it.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

pub(crate) fn tls(
    certificate: &CertificateDer<'static>,
    key: &PrivateKeyDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> TlsAcceptor {
    let provider = ring::default_provider();
    let key = provider.key_provider.load_private_key(key.clone_key()).unwrap();
    let shown = Arc::new(CertifiedKey::new(vec![certificate.clone()], key));
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(shown)));
    TlsAcceptor::from(Arc::new(config))
}

/// What a server does with each connection.
#[derive(Clone, Copy)]
pub(crate) enum Conduct {
    /// Answers this text, then closes.
    Answers(&'static str),
    /// Answers this text, then repeats a letter until the other side has had enough.
    Floods(&'static str),
    /// Answers this text, then says nothing more and keeps the connection.
    Stalls(&'static str),
}

/// Serves on a port of its own until the test's runtime ends; sends on what each request said.
pub(crate) async fn serve(
    tls: TlsAcceptor,
    conduct: Conduct,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // A client that refuses the certificate ends the handshake with an error: that is its right.
            let Ok(mut stream) = tls.accept(tcp).await else {
                continue;
            };
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap_or(0);
            heard
                .send(String::from_utf8_lossy(&request[..length]).into_owned())
                .ok();
            let (Conduct::Answers(text) | Conduct::Floods(text) | Conduct::Stalls(text)) = conduct;
            stream.write_all(text.as_bytes()).await.ok();
            stream.flush().await.ok();
            match conduct {
                Conduct::Answers(_) => stream.shutdown().await.unwrap_or(()),
                Conduct::Floods(_) => while stream.write_all(&[b'x'; 4096]).await.is_ok() {},
                Conduct::Stalls(_) => std::future::pending().await,
            }
        }
    });
    (address, requests)
}

pub(crate) async fn get(
    address: SocketAddr,
    pin: Fingerprint,
    timeouts: Timeouts,
) -> Result<Response, HttpsError> {
    let client = PinnedClient::new("127.0.0.1", address.port(), pin, timeouts).unwrap();
    let password = SecretBytes::from("key");
    let (method, path) = (Method::GET, "/v1/config/domain");
    client
        .request(Request {
            method,
            path,
            user: "gatewayzen",
            password: &password,
            body: None,
        })
        .await
}

/// The answer to a GET from a server with the pinned certificate.
pub(crate) async fn answer_of(conduct: Conduct, timeouts: Timeouts) -> Result<Response, HttpsError> {
    let identity = Identity::new();
    let (address, _requests) = serve(tls(&identity.certificate, &identity.key, &TLS13), conduct).await;
    get(address, identity.fingerprint(), timeouts).await
}

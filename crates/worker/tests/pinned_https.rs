//! The pinned HTTPS client against real TLS servers on loopback.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::{
    Fingerprint, HttpsError, MAX_BODY, PinnedClient, Request, Response, Timeouts,
};
use http::{Method, StatusCode};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const PATIENT: Timeouts = Timeouts {
    connect: Duration::from_secs(20),
    answer: Duration::from_secs(20),
};
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// A certificate of X.509 version 1, in base64.
const VERSION_1: &str = "\
    MIIBIjCByQIUSwalxtmmIrCWZm880uDzlNyVYgkwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIZ2F0ZXdheWQwIBcNMj\
    YxMTI0MDg0MDQyWhgPMjEyNjEwMzEwODQwNDJaMBMxETAPBgNVBAMMCGdhdGV3YXlkMFkwEwYHKoZIzj0CAQYIKoZI\
    zj0DAQcDQgAELsFdbH+gpdmccFf9+LMug4JcyUDqL5y8JgY7E2VpUAHC7fjAMaKTSbvRPO9Wy8SFes9+YglDfKabOF\
    sp7q4NbzAKBggqhkjOPQQDAgNIADBFAiEAocSuuHhl3Pi3rYs45clrrq2ipIvgC0DjrkGgbuWqGtECIGgFDLf/kXTJ\
    4ROJ7RZIZqw9k7qv+1dmVwLaVgsKJr2R\
";

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new() -> Self {
        Self::of(CertificateParams::new(vec!["gatewayd".to_owned()]).unwrap())
    }

    fn of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }

    fn fingerprint(&self) -> Fingerprint {
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

fn tls(
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
enum Conduct {
    /// Answers this text, then closes.
    Answers(&'static str),
    /// Answers this text, then repeats a letter until the other side has had enough.
    Floods(&'static str),
    /// Answers this text, then says nothing more and keeps the connection.
    Stalls(&'static str),
}

/// Serves on a port of its own until the test's runtime ends; sends on what each request said.
async fn serve(tls: TlsAcceptor, conduct: Conduct) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
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

async fn get(address: SocketAddr, pin: Fingerprint, timeouts: Timeouts) -> Result<Response, HttpsError> {
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
async fn answer_of(conduct: Conduct, timeouts: Timeouts) -> Result<Response, HttpsError> {
    let identity = Identity::new();
    let (address, _requests) = serve(tls(&identity.certificate, &identity.key, &TLS13), conduct).await;
    get(address, identity.fingerprint(), timeouts).await
}

#[tokio::test]
async fn the_holder_of_the_pinned_certificate_is_heard_and_told_the_password() {
    for version in [&TLS12, &TLS13] {
        let identity = Identity::new();
        let acceptor = tls(&identity.certificate, &identity.key, version);
        let (address, mut requests) = serve(acceptor, Conduct::Answers(OK)).await;
        let client = PinnedClient::new("127.0.0.1", address.port(), identity.fingerprint(), PATIENT).unwrap();
        let password = SecretBytes::from("open:sesame");
        let body = json!({"address": "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"});
        let path = "/v1/config/wallets/cold";
        let request = Request {
            method: Method::POST,
            path,
            user: "gatewayzen",
            password: &password,
            body: Some(&body),
        };
        assert!(!format!("{request:?}").contains("sesame"));
        let answer = client.request(request).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            (answer.content_type.as_str(), answer.body.as_slice()),
            ("application/json", &b"{}"[..])
        );
        let heard = requests.recv().await.unwrap();
        assert!(
            heard.starts_with("POST /v1/config/wallets/cold HTTP/1.1\r\n"),
            "{heard}"
        );
        // base64 of gatewayzen:open:sesame
        assert!(
            heard.contains("authorization: Basic Z2F0ZXdheXplbjpvcGVuOnNlc2FtZQ==\r\n"),
            "{heard}"
        );
        assert!(heard.contains("content-type: application/json\r\n"), "{heard}");
        assert!(
            heard.ends_with(r#"{"address":"rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"}"#),
            "{heard}"
        );
    }
}

#[tokio::test]
async fn another_certificate_is_refused_with_both_fingerprints_and_hears_no_password() {
    for version in [&TLS12, &TLS13] {
        let (pinned, other) = (Identity::new(), Identity::new());
        let acceptor = tls(&other.certificate, &other.key, version);
        let (address, mut requests) = serve(acceptor, Conduct::Answers(OK)).await;
        let error = get(address, pinned.fingerprint(), PATIENT).await.unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, HttpsError::NotPinned { .. }), "{told}");
        for part in [pinned.fingerprint(), other.fingerprint()] {
            assert!(told.contains(&part.to_string()), "{told}");
        }
        assert!(told.contains(&address.to_string()), "{told}");
        assert!(requests.try_recv().is_err());
    }
}

#[tokio::test]
async fn who_replays_the_pinned_certificate_without_its_key_is_refused() {
    for version in [&TLS12, &TLS13] {
        let (pinned, thief) = (Identity::new(), Identity::new());
        let acceptor = tls(&pinned.certificate, &thief.key, version);
        let (address, mut requests) = serve(acceptor, Conduct::Answers(OK)).await;
        let error = get(address, pinned.fingerprint(), PATIENT).await.unwrap_err();
        assert!(
            matches!(error, HttpsError::NotOwner { pin, .. } if pin == pinned.fingerprint()),
            "{error}"
        );
        assert!(requests.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_certificate_of_x509_version_1_is_refused_in_words() {
    // Made with openssl; such is the one that gatewayd ships. Whose key signs does not matter: it is not asked.
    let der = base64::engine::general_purpose::STANDARD
        .decode(VERSION_1)
        .unwrap();
    let (certificate, other) = (CertificateDer::from(der), Identity::new());
    for version in [&TLS12, &TLS13] {
        let acceptor = tls(&certificate, &other.key, version);
        let (address, _requests) = serve(acceptor, Conduct::Answers(OK)).await;
        let error = get(address, Fingerprint::of(&certificate), PATIENT)
            .await
            .unwrap_err();
        assert!(matches!(error, HttpsError::Unusable { .. }), "{error:?}");
        assert!(error.to_string().contains("UnsupportedCertVersion"), "{error}");
    }
}

#[tokio::test]
async fn names_and_dates_are_not_what_is_trusted() {
    let mut params = CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    let expired = Identity::of(params);
    let (address, _requests) = serve(
        tls(&expired.certificate, &expired.key, &TLS13),
        Conduct::Answers(OK),
    )
    .await;
    assert_eq!(
        get(address, expired.fingerprint(), PATIENT).await.unwrap().status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = get(address, Identity::new().fingerprint(), PATIENT)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpsError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_or_never_answers_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let short = Timeouts {
        connect: Duration::from_millis(100),
        ..PATIENT
    };
    let error = get(
        listener.local_addr().unwrap(),
        Identity::new().fingerprint(),
        short,
    )
    .await
    .unwrap_err();
    assert!(matches!(error, HttpsError::ConnectTimeout { .. }), "{error}");
    assert!(error.to_string().contains("100ms"), "{error}");

    let short = Timeouts {
        answer: Duration::from_millis(100),
        ..PATIENT
    };
    for text in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"] {
        let error = answer_of(Conduct::Stalls(text), short).await.unwrap_err();
        assert!(matches!(error, HttpsError::AnswerTimeout { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_in_mid_answer_is_no_answer() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    for text in ["", "HTTP/1.1 200 OK\r\nContent-", cut, chunked] {
        let error = answer_of(Conduct::Answers(text), PATIENT).await.unwrap_err();
        assert!(
            matches!(error, HttpsError::Closed { .. }),
            "after {text:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_flood_is_cut_off() {
    for text in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n",
    ] {
        let error = answer_of(Conduct::Floods(text), PATIENT).await.unwrap_err();
        assert!(matches!(error, HttpsError::TooLarge { .. }), "{error:?}");
        assert!(error.to_string().contains(&MAX_BODY.to_string()), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_tls_or_not_http_is_said() {
    let error = answer_of(Conduct::Answers("SSH-2.0-OpenSSH_9.2\r\n"), PATIENT)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpsError::NotHttp { .. }), "{error:?}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        plain
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        // Keeps the connection until the client has left.
        let _ = plain.read(&mut [0; 1024]).await;
    });
    let error = get(address, Identity::new().fingerprint(), PATIENT)
        .await
        .unwrap_err();
    assert!(matches!(error, HttpsError::Handshake { .. }), "{error:?}");
}

#[tokio::test]
async fn an_error_status_is_an_answer_and_its_body_does_not_show_in_debug_output() {
    let text = "HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\nsecret";
    let answer = answer_of(Conduct::Answers(text), PATIENT).await.unwrap();
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        (answer.content_type.as_str(), answer.body.as_slice()),
        ("text/html", &b"secret"[..])
    );
    assert!(!format!("{answer:?}").contains("secret"));
}

#[test]
fn a_fingerprint_is_read_as_openssl_prints_it() {
    let fingerprint = Fingerprint::of(b"certificate");
    let plain = fingerprint.to_string();
    assert_eq!(plain.parse::<Fingerprint>().unwrap(), fingerprint);
    let pairs: Vec<&str> = (0..32).map(|index| &plain[2 * index..2 * index + 2]).collect();
    assert_eq!(
        pairs.join(":").to_uppercase().parse::<Fingerprint>().unwrap(),
        fingerprint
    );
    for text in [
        "",
        "ab",
        &plain[1..],
        &format!("{plain}00"),
        &plain.replace(|digit: char| digit.is_ascii_hexdigit(), "g"),
    ] {
        assert!(text.parse::<Fingerprint>().is_err(), "{text}");
    }
}

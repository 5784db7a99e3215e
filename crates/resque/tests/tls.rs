//! Jobs over TLS, with a log-in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // tests

mod common;

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use common::{Running, job, next, quick, until};
use rcgen::{CertificateParams, KeyPair};
use resque::{Config, Queue};

/// What the test below does, in a process of its own: which roots are trusted is a matter of its environment.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_client() {
    let config = Config {
        url: std::env::var("RESQUE_TEST_URL").expect("started by another test"),
        connect_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    let trusted = std::env::var("RESQUE_TEST_TRUSTED").unwrap() == "yes";
    if !trusted {
        let text = Queue::connect(&config).await.unwrap_err().to_string();
        assert!(
            text.contains("UnknownIssuer") || text.contains("ertificate"),
            "{text}"
        );
        return;
    }
    until("the server answers", async || {
        Queue::connect(&config).await.is_ok()
    })
    .await;
    let queue = Queue::connect(&config).await.unwrap();
    let mut worker = Running::start(&queue, quick(&["q"]));
    queue.push("q", &job("C", 1)).await.unwrap();
    next(&mut worker.jobs).await;
    worker.stop().await;
}

#[test]
fn tls_with_a_password_works_where_the_certificate_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    std::fs::write(path("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    let other = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    std::fs::write(path("other.pem"), other.pem()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let mut server = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--tls-port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args(["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"])
        .args(["--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no"])
        .args(["--requirepass", "p@ss"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The trusted one first: it waits until the server is there.
    let ended = [("cert.pem", "yes"), ("other.pem", "no")].map(|(roots, trusted)| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "child_client"])
            .env("RESQUE_TEST_URL", format!("rediss://:p%40ss@localhost:{port}"))
            .env("RESQUE_TEST_TRUSTED", trusted)
            .env("SSL_CERT_FILE", path(roots))
            .env_remove("SSL_CERT_DIR")
            .status()
            .unwrap()
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(ended.iter().all(|status| status.success()));
}

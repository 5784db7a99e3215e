use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// Status and body of one request over a socket.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer[9..12].parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn served() -> (Health, SocketAddr) {
    let health = Health::new();
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    health.serve(listener);
    (health, address)
}

#[tokio::test]
async fn a_service_is_alive_while_it_is_not_ready_and_says_why_it_is_not() {
    let (health, address) = served().await;
    assert_eq!(
        get(address, "/readyz").await,
        (200, "{\"ready\":true,\"reasons\":{}}\n".to_owned())
    );

    health.set_not_ready("worker", "paused: bad credentials");
    let expected = "{\"ready\":false,\"reasons\":{\"worker\":\"paused: bad credentials\"}}\n";
    assert_eq!(get(address, "/readyz").await, (503, expected.to_owned()));
    assert_eq!(get(address, "/healthz").await, (200, "alive\n".to_owned()));

    health.set_ready("worker");
    assert_eq!(get(address, "/readyz").await.0, 200);
    assert_eq!(get(address, "/").await.0, 404);
}

#[tokio::test]
async fn a_probe_is_asked_at_each_request() {
    let (health, address) = served().await;
    let up = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = up.clone();
    health.add_probe("postgres", move || {
        let up = seen.load(std::sync::atomic::Ordering::SeqCst);
        async move { if up { Ok(()) } else { Err("refused".to_owned()) } }
    });
    let expected = "{\"ready\":false,\"reasons\":{\"postgres\":\"refused\"}}\n";
    assert_eq!(get(address, "/readyz").await, (503, expected.to_owned()));
    up.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(get(address, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_probe_that_never_answers_is_a_reason() {
    let health = Health::new();
    health.add_probe("redis", std::future::pending);
    assert_eq!(health.reasons().await["redis"], "no answer within 50ms");
}

#[tokio::test]
async fn an_address_in_use_is_named_with_a_cure() {
    let (_, address) = served().await;
    let text = listen(address).await.map(drop).unwrap_err();
    assert!(
        text.contains(&address.to_string()) && text.contains("choose another"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_hears_why_a_service_is_not_ready() {
    let (health, address) = served().await;
    let asked = move || tokio::task::spawn_blocking(move || ask(address));
    assert_eq!(asked().await.unwrap(), Ok(()));
    health.set_not_ready("worker", "paused: bad credentials");
    let reason = asked().await.unwrap().unwrap_err();
    assert!(reason.contains("paused: bad credentials"), "{reason}");
    // One that listens on every address is asked on its own machine.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
    health.set_ready("worker");
    let answer = tokio::task::spawn_blocking(move || ask(everywhere))
        .await
        .unwrap();
    assert_eq!(answer, Ok(()));
    // Port 1 refuses.
    let silent = tokio::task::spawn_blocking(|| ask(SocketAddr::from(([127, 0, 0, 1], 1))))
        .await
        .unwrap();
    assert!(silent.unwrap_err().contains("does not answer"));
}

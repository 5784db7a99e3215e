//! What comes back, or does not: nobody there, silence, floods, errors.

use std::time::Duration;

use gatewayzen_worker::https::{HttpsError, MAX_BODY, Timeouts};
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::server::{Conduct, Identity, PATIENT, answer_of, get};

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

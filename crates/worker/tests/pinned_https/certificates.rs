//! Who is heard: the holder of the pinned certificate and its key, and nobody else.

use base64::Engine as _;
use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::{Fingerprint, HttpsError, PinnedClient, Request};
use http::{Method, StatusCode};
use rcgen::{CertificateParams, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::server::{Conduct, Identity, OK, PATIENT, get, serve, tls};

/// A certificate of X.509 version 1, in base64.
const VERSION_1: &str = "\
    MIIBIjCByQIUSwalxtmmIrCWZm880uDzlNyVYgkwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwIZ2F0ZXdheWQwIBcNMj\
    YxMTI0MDg0MDQyWhgPMjEyNjEwMzEwODQwNDJaMBMxETAPBgNVBAMMCGdhdGV3YXlkMFkwEwYHKoZIzj0CAQYIKoZI\
    zj0DAQcDQgAELsFdbH+gpdmccFf9+LMug4JcyUDqL5y8JgY7E2VpUAHC7fjAMaKTSbvRPO9Wy8SFes9+YglDfKabOF\
    sp7q4NbzAKBggqhkjOPQQDAgNIADBFAiEAocSuuHhl3Pi3rYs45clrrq2ipIvgC0DjrkGgbuWqGtECIGgFDLf/kXTJ\
    4ROJ7RZIZqw9k7qv+1dmVwLaVgsKJr2R\
";

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

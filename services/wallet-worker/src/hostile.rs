//! Whatever answers at gatewayd's port with the pinned certificate: no panic, no hang, nothing kept without end, and no
//! text of it that shows our key or lies to a terminal.

use std::time::Duration;

use gatewayzen_core::StepError;
use gatewayzen_core::seal::SecretBytes;
use gatewayzen_worker::https::{Fingerprint, MAX_BODY, PinnedClient, Timeouts};
use integration_tests::simulated_fleet::Certificate;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::api::{Api, ColdWallet};
use crate::converge::converge;

const KEY: &str = "0f5ecretKeyOfTheHostileGatewayd";

struct Stand {
    runtime: Runtime,
    api: Api,
    answer: watch::Sender<Vec<u8>>,
}

impl Stand {
    /// A server that answers every request with the same bytes.
    fn new() -> Stand {
        let runtime = Runtime::new().unwrap();
        let certificate = Certificate::make("gatewayd").unwrap();
        let pin: Fingerprint = certificate.fingerprint.parse().unwrap();
        let tls = TlsAcceptor::from(certificate.tls);
        let (answer, answers) = watch::channel(Vec::new());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (tls, answers) = (tls.clone(), answers.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = tls.accept(tcp).await else {
                        return;
                    };
                    let _ = stream.read(&mut [0; 4096]).await;
                    let bytes: Vec<u8> = answers.borrow().clone();
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        let timeouts = Timeouts {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(2),
        };
        let client = PinnedClient::new("127.0.0.1", port, pin, timeouts).unwrap();
        Stand {
            runtime,
            api: Api::new(client, "gatewayzen", SecretBytes::from(KEY)),
            answer,
        }
    }

    fn ask(&self, answer: &[u8]) {
        self.answer.send_replace(answer.to_vec());
        self.runtime.block_on(async {
            let all = async {
                let wallet = self.api.cold_wallet().await;
                if let Ok(ColdWallet::Set(text)) = &wallet {
                    assert!(text.len() <= 2 * MAX_BODY);
                }
                check(wallet.map(drop));
                let hint = self
                    .api
                    .set_cold_wallet("rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh")
                    .await;
                assert!(hint.as_ref().is_ok_and(|hint| hint.len() < 1000) || hint.is_err());
                check(hint.map(drop));
                check(self.api.save().await);
                check(converge(&self.api, "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh").await);
            };
            tokio::time::timeout(Duration::from_secs(60), all)
                .await
                .expect("no hang");
        });
    }
}

fn check(outcome: Result<(), StepError>) {
    if let Err(error) = outcome {
        let text = format!("{error} {error:?}");
        assert!(!text.contains(KEY), "{text}");
        let sentence = error.to_string();
        assert!(
            sentence.len() < 2000 && !sentence.chars().any(char::is_control),
            "{sentence:?}"
        );
    }
}

fn answer() -> impl Strategy<Value = Vec<u8>> {
    let json = prop_oneof![
        Just(r#"{"COLD_WALLET":{"address":"#.to_owned()),
        Just(format!("\"{KEY}\"")),
        Just("{}".to_owned()),
        Just("null".to_owned()),
        Just("[".repeat(300)),
        Just("{\"a\":".repeat(300)),
        Just("}}".to_owned()),
        Just(r#","DOMAIN":"#.to_owned()),
        Just(r#""\u0000\u001b[31m\u202e""#.to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| format!("{text:?}")),
    ];
    let body = prop_oneof![
        prop::collection::vec(json, 0..8).prop_map(|parts| parts.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200),
        Just(vec![b' '; MAX_BODY + 1]),
    ];
    let status = prop::sample::select(vec![
        "200 OK", "201 X", "204 X", "301 X", "401 X", "500 X", "999 X", "20 X", "x",
    ]);
    let header = prop_oneof![
        Just(String::new()),
        Just("content-type: text/html\r\n".to_owned()),
        Just("content-length: 99999999999\r\n".to_owned()),
        Just("content-length: -1\r\n".to_owned()),
        Just("transfer-encoding: chunked\r\n".to_owned()),
        Just("location: https://evil.example/\r\n".to_owned()),
        Just(format!("x: {}\r\n", "y".repeat(500_000))),
        "[ -~]{0,60}".prop_map(|text| format!("content-type: {text}\r\n")),
        "[ -~]{0,60}".prop_map(|text| format!("{text}\r\n")),
    ];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        6 => (status, prop::collection::vec(header, 0..3), body).prop_map(|(status, headers, body)| {
            [format!("HTTP/1.1 {status}\r\n{}\r\n", headers.concat()).into_bytes(), body].concat()
        }),
    ]
}

#[test]
fn any_answer_is_read_or_refused_in_words_that_are_safe_to_show() {
    let stand = Stand::new();
    let usual = ProptestConfig::default();
    // Each is some handshakes.
    let cases = (usual.cases / 20).max(100);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..usual });
    runner
        .run(&answer(), |answer| {
            stand.ask(&answer);
            Ok(())
        })
        .unwrap();
}

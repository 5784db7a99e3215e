//! Setting the cold wallet on a simulated gatewayd, whose answers are as odd as the real one's.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod simulated;

use gatewayzen_core::StepError;
use gatewayzen_worker::https::Fingerprint;
use serde_json::{Value, json};
use simulated::{Fault, KEY, SimulatedGatewayd};
use wallet_worker::converge::converge;

const OURS: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
const OTHER: &str = "rrrrrrrrrrrrrrrrrrrrrhoLvTp";
const GET: &str = "GET /v1/config/wallets/cold";
const POST: &str = "POST /v1/config/wallets/cold";
const GET_DOMAIN: &str = "GET /v1/config/domain";
const POST_DOMAIN: &str = "POST /v1/config/domain";

async fn fails(gatewayd: &SimulatedGatewayd) -> StepError {
    converge(&gatewayd.api(), OURS).await.unwrap_err()
}

fn assert_ours_and_saved(gatewayd: &SimulatedGatewayd) {
    let state = gatewayd.state.lock().unwrap();
    assert_eq!(
        (state.wallet.as_deref(), state.saved.as_deref()),
        (Some(OURS), Some(OURS))
    );
}

#[tokio::test]
async fn an_unset_wallet_is_set_saved_and_seen() {
    let gatewayd = SimulatedGatewayd::start().await;
    converge(&gatewayd.api(), OURS).await.unwrap();
    assert_ours_and_saved(&gatewayd);
    let expected = [
        GET.to_owned(),
        format!(r#"{POST} {{"address":"{OURS}"}}"#),
        GET_DOMAIN.to_owned(),
        format!(r#"{POST_DOMAIN} {{"domain":"example.com"}}"#),
        GET.to_owned(),
    ];
    assert_eq!(gatewayd.state.lock().unwrap().calls, expected);
}

#[tokio::test]
async fn a_wallet_that_was_set_and_not_saved_is_saved_by_the_next_run() {
    let gatewayd = SimulatedGatewayd::start().await;
    // The first worker dies after its POST.
    gatewayd.state.lock().unwrap().wallet = Some(OURS.into());
    converge(&gatewayd.api(), OURS).await.unwrap();
    gatewayd.state.lock().unwrap().restart();
    assert_ours_and_saved(&gatewayd);
    let calls = gatewayd.state.lock().unwrap().calls.clone();
    assert!(!calls.iter().any(|call| call.starts_with(POST)), "{calls:?}");
}

#[tokio::test]
async fn a_wallet_that_a_restart_forgot_is_set_again() {
    let gatewayd = SimulatedGatewayd::start().await;
    gatewayd.fault(POST_DOMAIN, Fault::NoEffect);
    converge(&gatewayd.api(), OURS).await.unwrap();
    gatewayd.state.lock().unwrap().restart();
    assert_eq!(gatewayd.state.lock().unwrap().wallet, None);
    converge(&gatewayd.api(), OURS).await.unwrap();
    assert_ours_and_saved(&gatewayd);
}

#[tokio::test]
async fn another_wallet_is_never_overwritten() {
    let gatewayd = SimulatedGatewayd::start().await;
    gatewayd.state.lock().unwrap().wallet = Some(OTHER.into());
    let error = fails(&gatewayd).await;
    assert!(matches!(error, StepError::Permanent(_)), "{error:?}");
    let told = error.to_string();
    assert!(told.contains(OURS) && told.contains(OTHER), "{told}");
    let state = gatewayd.state.lock().unwrap();
    assert_eq!((state.wallet.as_deref(), &state.saved), (Some(OTHER), &None));
    assert_eq!(state.calls, [GET]);
}

#[tokio::test]
async fn another_wallet_that_came_first_by_a_moment_is_never_overwritten() {
    let gatewayd = SimulatedGatewayd::start().await;
    gatewayd.fault(POST, Fault::Meanwhile(OTHER));
    let error = fails(&gatewayd).await;
    assert!(matches!(error, StepError::Permanent(_)), "{error:?}");
    assert!(error.to_string().contains(OTHER), "{error}");
    assert_eq!(gatewayd.state.lock().unwrap().wallet.as_deref(), Some(OTHER));
}

#[tokio::test]
async fn what_a_post_answers_is_only_a_hint() {
    for fault in [Fault::Html(500), Fault::Html(304), Fault::Close, Fault::Says("{")] {
        let gatewayd = SimulatedGatewayd::start().await;
        let effect = !matches!(fault, Fault::Says(_));
        gatewayd.fault(POST, fault.clone());
        let result = converge(&gatewayd.api(), OURS).await;
        if effect {
            assert!(result.is_ok(), "{fault:?}: {result:?}");
            assert_ours_and_saved(&gatewayd);
        } else {
            assert!(
                matches!(result, Err(StepError::Transient(_))),
                "{fault:?}: {result:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_post_that_answers_created_and_sets_nothing_is_seen() {
    let gatewayd = SimulatedGatewayd::start().await;
    gatewayd.fault(POST, Fault::NoEffect);
    let error = fails(&gatewayd).await;
    let StepError::Transient(problem) = error else {
        panic!("{error:?}")
    };
    assert!(problem.sentence.contains("still has none"), "{problem:?}");
    assert!(problem.context.contains("201 Created"), "{problem:?}");
    converge(&gatewayd.api(), OURS).await.unwrap();
    assert_ours_and_saved(&gatewayd);
}

#[tokio::test]
async fn a_domain_is_told_back_as_it_was() {
    for domain in [json!("acme.example"), Value::Null, json!("")] {
        let gatewayd = SimulatedGatewayd::start().await;
        gatewayd.state.lock().unwrap().domain = domain.clone();
        converge(&gatewayd.api(), OURS).await.unwrap();
        let expected = format!("{POST_DOMAIN} {}", json!({ "domain": domain }));
        let state = gatewayd.state.lock().unwrap();
        assert_eq!((&state.domain, &state.calls[3]), (&domain, &expected));
    }
    // No domain at all: none is made up.
    let gatewayd = SimulatedGatewayd::start().await;
    gatewayd.fault(GET_DOMAIN, Fault::Says("{}"));
    converge(&gatewayd.api(), OURS).await.unwrap();
    assert_eq!(
        gatewayd.state.lock().unwrap().calls[3],
        format!("{POST_DOMAIN} {{}}")
    );
}

#[tokio::test]
async fn a_refused_key_is_a_fault_that_says_so_and_shows_no_key() {
    let gatewayd = SimulatedGatewayd::start().await;
    let api = gatewayd.api_with("a-former-key", gatewayd.fingerprint);
    let error = converge(&api, OURS).await.unwrap_err();
    assert!(matches!(error, StepError::Permanent(_)), "{error:?}");
    assert!(error.to_string().contains("refused the API key"), "{error}");
    assert!(error.to_string().contains("401"), "{error}");
    assert!(!format!("{error:?} {api:?}").contains("a-former-key"));
}

#[tokio::test]
async fn another_certificate_is_a_fault_with_both_fingerprints() {
    let gatewayd = SimulatedGatewayd::start().await;
    let pinned = Fingerprint::of(b"another certificate");
    let error = converge(&gatewayd.api_with(KEY, pinned), OURS).await.unwrap_err();
    assert!(matches!(error, StepError::Permanent(_)), "{error:?}");
    for fingerprint in [pinned, gatewayd.fingerprint] {
        assert!(error.to_string().contains(&fingerprint.to_string()), "{error}");
    }
    assert!(gatewayd.state.lock().unwrap().calls.is_empty());
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_said_with_its_figures() {
    let cases = [
        (
            GET,
            Fault::Html(500),
            "GET /v1/config/wallets/cold with 500 Internal Server Error, text/html",
        ),
        (
            GET,
            Fault::Html(200),
            "with 200 OK, text/html, 53 bytes, where a JSON object was expected",
        ),
        (
            GET,
            Fault::Close,
            "closed the connection before its answer was complete",
        ),
        (GET, Fault::Says("[]"), "where a JSON object was expected"),
        (GET, Fault::Says("{}"), "without COLD_WALLET.address"),
        (
            GET_DOMAIN,
            Fault::Html(502),
            "GET /v1/config/domain with 502 Bad Gateway",
        ),
        (POST_DOMAIN, Fault::Html(500), "POST /v1/config/domain with 500"),
        (POST_DOMAIN, Fault::Close, "closed the connection"),
    ];
    for (call, fault, expected) in cases {
        let gatewayd = SimulatedGatewayd::start().await;
        gatewayd.fault(call, fault);
        let error = fails(&gatewayd).await;
        assert!(matches!(error, StepError::Transient(_)), "{error:?}");
        assert!(
            error.to_string().contains(expected),
            "{error} should say {expected}"
        );
        converge(&gatewayd.api(), OURS).await.unwrap();
        assert_ours_and_saved(&gatewayd);
    }
}

#[tokio::test]
async fn a_wallet_that_is_no_address_is_another_wallet() {
    for strange in [
        r#"{"COLD_WALLET":{"address":{"x":"\u001b[2J"}}}"#,
        r#"{"COLD_WALLET":{"address":7}}"#,
    ] {
        let gatewayd = SimulatedGatewayd::start().await;
        gatewayd.fault(GET, Fault::Says(strange));
        let error = fails(&gatewayd).await;
        assert!(matches!(error, StepError::Permanent(_)), "{error:?}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}

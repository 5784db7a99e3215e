//! One wallet for one gatewayd, for ever, whoever races, stops or is overtaken.

use gatewayzen_core::StepError;

use crate::bench::Bench;
use crate::simulated::{self, Fault};

const GET: &str = "GET /v1/config/wallets/cold";

#[tokio::test]
async fn one_wallet_for_one_gatewayd_for_ever() {
    let bench = Bench::new().await;
    let address = bench.take().await.unwrap();
    assert_eq!(bench.stored().await, Some(address.clone()));
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(address.clone()));
    assert_eq!(bench.take().await.unwrap(), address);
    // The same row on another machine, which has none yet.
    *bench.gatewayd.state.lock().unwrap() = simulated::State::default();
    assert_eq!(bench.take().await.unwrap(), address);
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(address));
}

#[tokio::test]
async fn a_wallet_is_stored_before_it_is_shown_to_anybody() {
    let bench = Bench::new().await;
    bench.gatewayd.fault(GET, Fault::Close);
    let error = bench.take().await.unwrap_err();
    assert!(matches!(error, StepError::Transient(_)), "{error:?}");
    let stored = bench.stored().await.unwrap();
    assert_eq!(bench.calls(), [GET], "nobody has heard the address");
    assert_eq!(bench.take().await.unwrap(), stored);
}

#[tokio::test]
async fn a_worker_that_was_overtaken_makes_no_wallet_and_calls_nobody() {
    let bench = Bench::new().await;
    let move_away = "UPDATE gatewayds SET state = 'terminate'";
    sqlx::query(move_away).execute(&bench.database.app).await.unwrap();
    let error = bench.take().await.unwrap_err();
    assert!(matches!(error, StepError::Overtaken), "{error:?}");
    assert_eq!((bench.stored().await, bench.calls()), (None, vec![]));
}

#[tokio::test]
async fn two_racers_end_with_one_wallet() {
    let bench = Bench::new().await;
    let (one, other) = tokio::join!(bench.take(), bench.take());
    let stored = bench.stored().await.unwrap();
    assert_eq!((one.unwrap(), other.unwrap()), (stored.clone(), stored.clone()));
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(stored));
}

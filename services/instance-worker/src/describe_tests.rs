use std::sync::{Arc, Mutex};

use super::*;
use crate::errors::Meaning;

const PERIOD: Duration = Duration::from_millis(100);

fn seen(id: &str) -> Seen {
    Seen {
        id: id.to_owned(),
        state: InstanceStateName::Running,
        state_reason: None,
        public_address: None,
        private_address: None,
        client_token: Some(format!("token-of-{id}")),
        launched_at: None,
        fleet: None,
        attempt: None,
        gatewayd: None,
        name: None,
    }
}

type Calls = Arc<Mutex<Vec<(Instant, Query)>>>;

/// A describer whose EC2 has exactly the instances that it is asked for.
fn describer() -> (Describer, Calls) {
    let calls = Calls::default();
    let kept = calls.clone();
    let describer = Describer::with(PERIOD, move |query| {
        let ids = query
            .values
            .iter()
            .map(|value| value.trim_start_matches("token-of-").to_owned());
        let answer = ids.map(|id| seen(&id)).collect();
        kept.lock().unwrap().push((Instant::now(), query));
        async move { Ok(answer) }
    });
    (describer, calls)
}

async fn ask_all(describer: &Describer, by: By, values: impl Iterator<Item = String>) {
    let asks = values.map(|value| {
        let describer = describer.clone();
        tokio::spawn(async move { (describer.ask(by, &value).await.unwrap(), value) })
    });
    for ask in asks.collect::<Vec<_>>() {
        let (found, value) = ask.await.unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].matches(by, &value));
    }
}

#[tokio::test]
async fn many_waiting_steps_are_one_call() {
    let (describer, calls) = describer();
    describer.ask(By::Id, "i-first").await.unwrap();
    // The first call has used up the period: these wait together for the next.
    ask_all(&describer, By::Id, (0..150).map(|n| format!("i-{n}"))).await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[1].1.values.len(), 150);
}

#[tokio::test]
async fn the_first_to_ask_after_a_pause_does_not_wait() {
    let (describer, calls) = describer();
    describer.ask(By::Id, "i-1").await.unwrap();
    tokio::time::sleep(PERIOD).await;
    let asked = Instant::now();
    describer.ask(By::Id, "i-2").await.unwrap();
    let call = calls.lock().unwrap()[1].0;
    assert!(call - asked < PERIOD / 2, "asked {:?} late", call - asked);
}

#[tokio::test]
async fn calls_are_a_period_apart_and_no_longer_than_ec2_takes() {
    let (describer, calls) = describer();
    ask_all(&describer, By::Id, (0..450).map(|n| format!("i-{n}"))).await;
    ask_all(&describer, By::Token, ["token-of-i-1".to_owned()].into_iter()).await;
    let calls = calls.lock().unwrap();
    assert!(calls.len() >= 4);
    for pair in calls.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= PERIOD);
    }
    assert!(calls.iter().all(|(_, query)| query.values.len() <= MOST_VALUES));
}

#[tokio::test]
async fn what_ec2_does_not_show_is_an_empty_answer() {
    let describer = Describer::with(PERIOD, |_| async { Ok(vec![seen("i-other")]) });
    assert!(describer.ask(By::Id, "i-mine").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_failed_call_fails_for_all_who_waited_and_for_nobody_after() {
    let times = Arc::new(Mutex::new(0));
    let describer = Describer::with(PERIOD, move |_| {
        *times.lock().unwrap() += 1;
        let second = *times.lock().unwrap() == 2;
        async move {
            if second {
                Err(Failure::unanswered(CALL, "it is a test"))
            } else {
                Ok(vec![])
            }
        }
    });
    describer.ask(By::Id, "i-0").await.unwrap();
    let (one, two) = tokio::join!(describer.ask(By::Id, "i-1"), describer.ask(By::Id, "i-2"));
    assert_eq!(one.unwrap_err().meaning, Meaning::Unanswered);
    assert_eq!(two.unwrap_err().meaning, Meaning::Unanswered);
    describer.ask(By::Id, "i-3").await.unwrap();
}

#[tokio::test]
async fn a_step_that_was_cut_short_is_not_asked_for() {
    let (describer, calls) = describer();
    describer.ask(By::Id, "i-0").await.unwrap();
    let cut = tokio::time::timeout(PERIOD / 10, describer.ask(By::Id, "i-cut")).await;
    assert!(cut.is_err());
    describer.ask(By::Id, "i-1").await.unwrap();
    assert_eq!(calls.lock().unwrap()[1].1.values, ["i-1"]);
}

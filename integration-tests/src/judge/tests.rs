//! The judge finds what is broken, and nothing in a fleet that is well.

use time::OffsetDateTime;

use super::*;
use crate::simulated_fleet::HostView;

const WALLET: &str = "rKept";

fn row(id: i64, state: State, generation: i64) -> Gatewayd {
    Gatewayd {
        generation,
        instance_id: Some("i-1".to_owned()),
        ripple_address: Some(WALLET.to_owned()),
        ..Gatewayd::created(id, &format!("row-{id}"), state, OffsetDateTime::UNIX_EPOCH)
    }
}

fn happened(gatewayd: &str, instance: &str, event: Event) -> Entry {
    Entry {
        at_ms: 0,
        gatewayd: gatewayd.to_owned(),
        instance: instance.to_owned(),
        event,
    }
}

fn launched(gatewayd: &str, instance: &str) -> Entry {
    let event = Event::Launched {
        token: instance.to_owned(),
        image: String::new(),
        tags: BTreeMap::new(),
    };
    happened(gatewayd, instance, event)
}

fn set(address: &str) -> Entry {
    let address = address.to_owned();
    happened("1", "i-1", Event::WalletSet { address })
}

fn went(event: &str, from: Option<State>, to: State, generation: i64, by: &str) -> HistoryEntry {
    HistoryEntry {
        at: OffsetDateTime::UNIX_EPOCH,
        event: event.to_owned(),
        from_state: from.map(|from| from.name().to_owned()),
        to_state: to.name().to_owned(),
        generation,
        by: by.to_owned(),
        why: None,
    }
}

const APP: &str = "gatewayzen_app";
const WORKER: &str = "a-worker@host:1";

/// One row that is live, with its machine and its wallet.
fn well() -> Evidence {
    let walk = [
        went("created", None, State::New, 1, APP),
        went("moved", Some(State::New), State::Instance, 2, APP),
        went("moved", Some(State::Instance), State::Key, 3, WORKER),
        went("moved", Some(State::Key), State::Start, 4, WORKER),
        went("moved", Some(State::Start), State::Wallet, 5, WORKER),
        went("moved", Some(State::Wallet), State::Live, 6, WORKER),
    ];
    Evidence {
        rows: BTreeMap::from([(1, row(1, State::Live, 6))]),
        histories: BTreeMap::from([(1, walk.to_vec())]),
        wallets: vec![(1, WALLET.to_owned())],
        ledger: vec![launched("1", "i-1"), set(WALLET)],
        strays: BTreeMap::new(),
        hosts: vec![HostView {
            disks: Vec::new(),
            metadata_tokens: "required".into(),
            tls_key: None,
            ssh_key: String::new(),
            instance: "i-1".to_owned(),
            gatewayd: "1".to_owned(),
            state: "running",
            address: Some([127, 0, 0, 1].into()),
            host_key: String::new(),
            launch_key_erased: true,
            admits: Vec::new(),
            release: String::new(),
            api_key: None,
            certificate: None,
            saved_wallet: Some(WALLET.to_owned()),
            running_wallet: Some(WALLET.to_owned()),
            pids: vec![1],
        }],
    }
}

fn broken_by(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = well();
    change(&mut evidence);
    let mut laws: Vec<_> = broken_once_settled(&evidence)
        .iter()
        .map(|broken: &Broken| broken.law)
        .collect();
    laws.dedup();
    laws
}

fn change_row(evidence: &mut Evidence, change: impl FnOnce(&mut Gatewayd)) {
    change(evidence.rows.get_mut(&1).unwrap());
}

#[test]
fn a_fleet_that_is_well_breaks_no_law() {
    assert!(broken_by(|_| {}).is_empty());
}

#[test]
fn a_second_machine_is_found_and_a_successor_is_none() {
    let law = ["one_machine_for_one_gatewayd"];
    assert_eq!(broken_by(|e| e.ledger.insert(0, launched("1", "i-0"))), law);
    for end in [Event::Died, Event::Terminated] {
        let successor = |e: &mut Evidence| {
            e.ledger.insert(0, launched("1", "i-0"));
            e.ledger.insert(1, happened("1", "i-0", end));
        };
        assert!(broken_by(successor).is_empty());
    }
}

#[test]
fn a_machine_that_is_gone_must_have_died_by_itself() {
    let law = ["one_machine_for_one_gatewayd"];
    let gone = |e: &mut Evidence, how| {
        e.ledger.push(happened("1", "i-1", how));
        e.hosts[0].state = "terminated";
    };
    let unnoticed = "a_gone_machine_is_noticed";
    assert_eq!(broken_by(|e| gone(e, Event::Terminated)), [law[0], unnoticed]);
    assert_eq!(broken_by(|e| gone(e, Event::Died)), [unnoticed]);
    let held = |e: &mut Evidence| {
        gone(e, Event::Died);
        change_row(e, |row| row.hold = Some("mine".to_owned()));
    };
    assert!(broken_by(held).is_empty());
    assert_eq!(
        broken_by(|e| change_row(e, |row| row.instance_id = Some("i-9".to_owned()))),
        law
    );
}

#[test]
fn a_machine_without_a_row_is_found() {
    let orphan = |e: &mut Evidence| {
        let mut host = e.hosts[0].clone();
        host.gatewayd = "7".to_owned();
        e.hosts.push(host);
    };
    assert_eq!(broken_by(orphan), ["no_machine_without_a_row"]);
}

#[test]
fn an_orphan_must_end_and_another_fleets_machine_must_not() {
    let stray = |e: &mut Evidence, ours: bool, event: Option<Event>| {
        e.strays.insert("i-7".to_owned(), ours);
        e.ledger.push(launched("1", "i-7"));
        let mut host = e.hosts[0].clone();
        host.instance = "i-7".to_owned();
        if let Some(event) = event {
            e.ledger.push(happened("1", "i-7", event));
            host.state = "terminated";
        }
        e.hosts.push(host);
    };
    assert_eq!(broken_by(|e| stray(e, true, None)), ["no_machine_without_a_row"]);
    assert!(broken_by(|e| stray(e, true, Some(Event::TerminateAsked))).is_empty());
    assert!(broken_by(|e| stray(e, false, None)).is_empty());
    let killed = |e: &mut Evidence| stray(e, false, Some(Event::TerminateAsked));
    assert_eq!(broken_by(killed), ["the_sweep_kills_only_orphans"]);
}

#[test]
fn another_wallet_is_found_wherever_it_was() {
    let law = "one_wallet_for_one_gatewayd";
    assert_eq!(broken_by(|e| e.ledger.push(set("rOther"))), [law]);
    assert_eq!(broken_by(|e| e.wallets.push((1, WALLET.to_owned()))), [law]);
    assert_eq!(broken_by(|e| e.wallets.push((2, WALLET.to_owned()))), [law]);
    let other = |e: &mut Evidence| change_row(e, |row| row.ripple_address = Some("rOther".to_owned()));
    assert!(broken_by(other).contains(&law));
}

#[test]
fn a_live_server_without_its_wallet_is_found() {
    let law = ["the_live_server_has_the_wallet"];
    assert_eq!(broken_by(|e| e.hosts[0].saved_wallet = None), law);
    assert_eq!(broken_by(|e| e.hosts[0].running_wallet = None), law);
    let down = |e: &mut Evidence| {
        e.hosts[0].running_wallet = None;
        e.hosts[0].pids.clear();
    };
    assert_eq!(broken_by(down), law, "nobody may stop a live one");
    let rebooted = |e: &mut Evidence| {
        down(e);
        e.ledger.push(happened("1", "i-1", Event::Started { pid: 1 }));
        e.ledger.push(happened("1", "i-1", Event::Rebooted));
    };
    assert!(broken_by(rebooted).is_empty());
}

#[test]
fn a_history_that_jumps_is_found() {
    let law = ["every_history_is_a_legal_path"];
    let history = |e: &mut Evidence| e.histories.get_mut(&1).unwrap().clone();
    let with = |change: fn(&mut Vec<HistoryEntry>)| {
        move |e: &mut Evidence| {
            let mut changed = history(e);
            change(&mut changed);
            e.histories.insert(1, changed);
        }
    };
    assert_eq!(broken_by(with(|h| drop(h.remove(3)))), law, "a step is missing");
    assert_eq!(broken_by(with(|h| drop(h.remove(0)))), law, "it does not begin");
    assert_eq!(broken_by(with(|h| drop(h.pop()))), law, "it ends elsewhere");
    assert_eq!(
        broken_by(with(|h| h[2].by = APP.to_owned())),
        law,
        "a worker's move"
    );
    assert_eq!(
        broken_by(with(|h| h[1].by = WORKER.to_owned())),
        law,
        "an external move"
    );
    assert_eq!(
        broken_by(with(|h| h[5].generation = 9)),
        law,
        "a generation is missing"
    );
    let held = with(|h| {
        h.push(went(
            "held",
            Some(State::Live),
            State::Live,
            6,
            "gatewayzen_operator",
        ))
    });
    assert!(broken_by(held).is_empty());
}

#[test]
fn a_row_that_waits_or_hides_its_reason_is_found() {
    let parked = |e: &mut Evidence, unblock: Option<&str>| {
        let steps = e.histories.get_mut(&1).unwrap();
        steps.pop();
        steps.push(went("faulted", Some(State::Wallet), State::Wallet, 6, WORKER));
        change_row(e, |row| {
            row.state = State::Wallet;
            row.fault = Some("it broke".to_owned());
            row.unblock = unblock.map(str::to_owned);
        });
    };
    let law = "nothing_waits_for_ever";
    let lasting = "parked_for_a_lasting_reason";
    assert_eq!(broken_by(|e| parked(e, None)), [law, lasting]);
    assert_eq!(broken_by(|e| parked(e, Some("mend it"))), [lasting]);
    let down = |e: &mut Evidence| {
        parked(e, Some("mend it"));
        e.hosts[0].pids.clear();
    };
    assert!(broken_by(down).is_empty(), "gatewayd went down after its start");
    let moving = |e: &mut Evidence| {
        parked(e, None);
        change_row(e, |row| row.fault = None);
    };
    assert_eq!(broken_by(moving), [law]);
}

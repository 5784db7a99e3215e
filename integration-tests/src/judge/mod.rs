//! The judge: each law as a function from the evidence to what is broken of it. The laws' stories and the chaos run ask it.

mod evidence;
mod sweep;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use gatewayzen_core::repository::HistoryEntry;
use gatewayzen_core::state::Mover;
use gatewayzen_core::{Gatewayd, State};

use crate::simulated_fleet::{Entry, Event};

pub use evidence::{Broken, Evidence};
pub use sweep::{a_gone_machine_is_noticed, no_machine_without_a_row};
pub use verdict::{must_be_none, nothing_is_broken};

type Law = fn(&Evidence) -> Vec<Broken>;

/// What holds at any moment at which no step is in hand.
const ALWAYS: [Law; 5] = [
    one_machine_for_one_gatewayd,
    no_machine_without_a_row,
    one_wallet_for_one_gatewayd,
    the_live_server_has_the_wallet,
    every_history_is_a_legal_path,
];

/// What holds besides once a fleet has settled and its sweeps have run.
const SETTLED: [Law; 4] = [
    nothing_waits_for_ever,
    parked_for_a_lasting_reason,
    sweep::the_sweep_kills_only_orphans,
    a_gone_machine_is_noticed,
];

/// What is broken in a fleet in which no step is in hand.
pub fn broken(evidence: &Evidence) -> Vec<Broken> {
    ALWAYS.iter().flat_map(|law| law(evidence)).collect()
}

/// What is broken in a fleet that has settled and was swept.
pub fn broken_once_settled(evidence: &Evidence) -> Vec<Broken> {
    let settled = SETTLED.iter().flat_map(|law| law(evidence));
    broken(evidence).into_iter().chain(settled).collect()
}

/// A settled row is idle, on hold, or parked with its reason and what unblocks it.
fn nothing_waits_for_ever(evidence: &Evidence) -> Vec<Broken> {
    const LAW: &str = "nothing_waits_for_ever";
    let mut broken = Vec::new();
    for row in evidence.rows.values() {
        let said = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.trim().is_empty());
        if row.fault.is_some() && !(said(&row.fault) && said(&row.unblock)) {
            broken.push(Broken::new(
                LAW,
                Some(row.id),
                "it is parked and does not say why, or what unblocks it",
            ));
        }
        if row.state.is_working() && row.fault.is_none() && row.hold.is_none() {
            let what = format!("it is neither idle nor parked nor held, but in {}", row.state);
            broken.push(Broken::new(LAW, Some(row.id), what));
        }
    }
    broken
}

/// Nothing goes wrong any more and each parked row was retried: what is parked still has a machine that is past help.
fn parked_for_a_lasting_reason(evidence: &Evidence) -> Vec<Broken> {
    let parked = |row: &&Gatewayd| row.fault.is_some() && row.hold.is_none();
    let mut broken = Vec::new();
    for row in evidence.rows.values().filter(parked) {
        let lasting = match evidence.host(row) {
            // EC2 ended it by itself, or never gave it an address; or gatewayd went down with a reboot after its start.
            Some(host) => {
                host.state == "terminated"
                    || host.address.is_none()
                    || (row.state == State::Wallet && host.pids.is_empty())
            }
            None => false,
        };
        if !lasting {
            let fault = row.fault.as_deref().unwrap_or_default();
            let what = format!("it is parked in {} for nothing that lasts: {fault}", row.state);
            broken.push(Broken::new("parked_for_a_lasting_reason", Some(row.id), what));
        }
    }
    broken
}

/// At no moment two machines of one row; at the end the one that the row names, or the trace of its death.
fn one_machine_for_one_gatewayd(evidence: &Evidence) -> Vec<Broken> {
    const LAW: &str = "one_machine_for_one_gatewayd";
    let mut broken = Vec::new();
    let mut alive = BTreeMap::<i64, BTreeSet<&str>>::new();
    let own = |entry: &&Entry| !evidence.strays.contains_key(&entry.instance);
    for entry in evidence.ledger.iter().filter(own) {
        let id = entry.gatewayd.parse().unwrap_or(0);
        let machines = alive.entry(id).or_default();
        match entry.event {
            Event::Launched { .. } => {
                if let Some(other) = machines.first() {
                    let what = format!(
                        "{} was launched at {} ms while {other} was alive",
                        entry.instance, entry.at_ms
                    );
                    broken.push(Broken::new(LAW, Some(id), what));
                }
                machines.insert(&entry.instance);
            }
            Event::Terminated | Event::Died => {
                machines.remove(entry.instance.as_str());
            }
            _ => {}
        }
    }
    for row in evidence.rows.values() {
        let machines: Vec<&str> = alive.remove(&row.id).unwrap_or_default().into_iter().collect();
        let right = match row.state {
            State::New | State::Terminated => machines.is_empty(),
            // On the way to its first machine, or from it.
            State::Instance | State::Terminate => machines.len() <= 1,
            _ => row
                .instance_id
                .as_deref()
                .is_some_and(|named| machines == [named] || (machines.is_empty() && died(evidence, named))),
        };
        if !right {
            let what = format!(
                "it is in {}, names the instance {:?}, and alive are {machines:?}",
                row.state, row.instance_id
            );
            broken.push(Broken::new(LAW, Some(row.id), what));
        }
    }
    broken
}

/// Whether EC2 ended an instance by itself.
fn died(evidence: &Evidence, instance: &str) -> bool {
    let died = |entry: &&Entry| entry.instance == instance && entry.event == Event::Died;
    evidence.ledger.iter().rev().any(|entry| died(&entry))
}

/// Whatever any machine of a row was ever told is the one wallet that is kept for it.
fn one_wallet_for_one_gatewayd(evidence: &Evidence) -> Vec<Broken> {
    const LAW: &str = "one_wallet_for_one_gatewayd";
    let mut broken = Vec::new();
    let mut kept = BTreeMap::<i64, &str>::new();
    let mut owners = BTreeMap::<&str, i64>::new();
    for (id, address) in &evidence.wallets {
        if kept.insert(*id, address).is_some() {
            broken.push(Broken::new(LAW, Some(*id), "two wallets are kept for it"));
        }
        if let Some(other) = owners.insert(address, *id) {
            broken.push(Broken::new(
                LAW,
                Some(*id),
                format!("row {other} has the wallet {address} as well"),
            ));
        }
    }
    for entry in &evidence.ledger {
        let (Event::WalletSet { address }
        | Event::WalletSaved { address }
        | Event::WalletForgotten { address }) = &entry.event
        else {
            continue;
        };
        let id = entry.gatewayd.parse().unwrap_or(0);
        if kept.get(&id).copied() != Some(address.as_str()) {
            let what = format!(
                "at {} ms {} had the wallet {address}, but kept is {:?}",
                entry.at_ms,
                entry.instance,
                kept.get(&id)
            );
            broken.push(Broken::new(LAW, Some(id), what));
        }
    }
    for row in evidence.rows.values() {
        if row.ripple_address.as_deref() != kept.get(&row.id).copied() {
            let what = format!(
                "the row says {:?}, kept is {:?}",
                row.ripple_address,
                kept.get(&row.id)
            );
            broken.push(Broken::new(LAW, Some(row.id), what));
        }
    }
    broken
}

/// A live row's gatewayd has the row's wallet in its file and, unless it went down with a reboot, in its memory.
fn the_live_server_has_the_wallet(evidence: &Evidence) -> Vec<Broken> {
    let live = |row: &&Gatewayd| row.state == State::Live;
    let mut broken = Vec::new();
    for row in evidence.rows.values().filter(live) {
        let Some(host) = evidence.host(row).filter(|host| host.state == "running") else {
            continue;
        };
        let address = row.ripple_address.as_ref();
        let runs = match host.running_wallet.as_ref() {
            Some(running) => Some(running) == address,
            None => host.pids.is_empty() && rebooted_since_start(evidence, &host.instance),
        };
        if address.is_none() || host.saved_wallet.as_ref() != address || !runs {
            let what = format!(
                "the row says {address:?}, {} has saved {:?} and runs {:?} with {} processes",
                host.instance,
                host.saved_wallet,
                host.running_wallet,
                host.pids.len()
            );
            broken.push(Broken::new("the_live_server_has_the_wallet", Some(row.id), what));
        }
    }
    broken
}

fn rebooted_since_start(evidence: &Evidence, instance: &str) -> bool {
    let of_it = evidence
        .ledger
        .iter()
        .rev()
        .filter(|entry| entry.instance == instance);
    let mut last = of_it.filter(|entry| matches!(entry.event, Event::Started { .. } | Event::Rebooted));
    last.next().is_some_and(|entry| entry.event == Event::Rebooted)
}

/// Each history begins with the row's creation, moves along the diagram by whom the diagram says, misses no
/// generation, and ends where the row is.
pub fn every_history_is_a_legal_path(evidence: &Evidence) -> Vec<Broken> {
    const LAW: &str = "every_history_is_a_legal_path";
    let mut broken = Vec::new();
    for row in evidence.rows.values() {
        let history = evidence.histories.get(&row.id).map_or(&[][..], Vec::as_slice);
        let mut steps = history.iter();
        let Some(first) = steps
            .next()
            .filter(|first| first.event == "created" && first.generation == 1)
        else {
            broken.push(Broken::new(
                LAW,
                Some(row.id),
                "its history does not begin with its creation",
            ));
            continue;
        };
        let mut before = first;
        for entry in steps {
            if let Some(wrong) = wrong_step(before, entry) {
                let what = format!(
                    "{wrong}, after {} of generation {}",
                    before.event, before.generation
                );
                broken.push(Broken::new(LAW, Some(row.id), what));
            }
            before = entry;
        }
        if (before.to_state.as_str(), before.generation) != (row.state.name(), row.generation) {
            let what = format!(
                "its history ends in {} of generation {}, the row is in {} of generation {}",
                before.to_state, before.generation, row.state, row.generation
            );
            broken.push(Broken::new(LAW, Some(row.id), what));
        }
    }
    broken
}

/// What is wrong with one entry after another.
fn wrong_step(before: &HistoryEntry, entry: &HistoryEntry) -> Option<String> {
    let next = before.generation + 1;
    let moved = entry.event == "moved";
    let right = match entry.event.as_str() {
        "moved" | "faulted" | "retried" => entry.generation == next,
        "held" | "resumed" => entry.generation == before.generation,
        _ => false,
    };
    if !right {
        return Some(format!("{} has generation {}", entry.event, entry.generation));
    }
    let from = entry.from_state.as_deref().unwrap_or_default();
    if from != before.to_state || (!moved && entry.to_state != from) {
        return Some(format!("{} goes from {from} to {}", entry.event, entry.to_state));
    }
    let (Ok(from), Ok(to)) = (from.parse::<State>(), entry.to_state.parse::<State>()) else {
        return Some(format!("{} names a strange state", entry.event));
    };
    let external = ["gatewayzen_app", "gatewayzen_operator"].contains(&entry.by.as_str());
    let legal = match from.mover(to) {
        Some(Mover::External) => external,
        Some(Mover::Worker) => !external,
        None => false,
    };
    (moved && !legal).then(|| format!("{} moved it from {from} to {to}", entry.by))
}

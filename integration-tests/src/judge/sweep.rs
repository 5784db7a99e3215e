//! The laws of the sweep: what it must find, and what it must let alone.

use gatewayzen_core::State;

use super::{Broken, Evidence};
use crate::simulated_fleet::{Entry, Event};

/// No machine is alive that belongs to no row: neither one of a row that is not there, nor one with the fleet's tags
/// that no row claims.
pub fn no_machine_without_a_row(evidence: &Evidence) -> Vec<Broken> {
    // The sweep lets the machines of a row on hold alone, whatever they are.
    let held = |gatewayd: &str| {
        let row = gatewayd.parse().ok().and_then(|id| evidence.rows.get(&id));
        row.is_some_and(|row| row.hold.is_some())
    };
    let orphan = |instance: &str, gatewayd: &str| match evidence.strays.get(instance) {
        Some(ours) => *ours && !held(gatewayd),
        None => gatewayd
            .parse()
            .map_or(true, |id| !evidence.rows.contains_key(&id)),
    };
    let alive = evidence.hosts.iter().filter(|host| host.state != "terminated");
    alive
        .filter(|host| orphan(&host.instance, &host.gatewayd))
        .map(|host| {
            let what = format!("{} of gatewayd {:?} is alive", host.instance, host.gatewayd);
            Broken::new("no_machine_without_a_row", None, what)
        })
        .collect()
}

/// Nobody asks for the end of another fleet's machine.
pub(super) fn the_sweep_kills_only_orphans(evidence: &Evidence) -> Vec<Broken> {
    let theirs = |entry: &&Entry| evidence.strays.get(&entry.instance) == Some(&false);
    let asked = evidence.ledger.iter().filter(theirs);
    asked
        .filter(|entry| entry.event == Event::TerminateAsked)
        .map(|entry| {
            let what = format!("the end of {}, another fleet's, was asked for", entry.instance);
            Broken::new("the_sweep_kills_only_orphans", None, what)
        })
        .collect()
}

/// An idle row whose machine EC2 ended by itself says so, unless it is on hold.
pub fn a_gone_machine_is_noticed(evidence: &Evidence) -> Vec<Broken> {
    let mut broken = Vec::new();
    for row in evidence.rows.values() {
        let idle = matches!(row.state, State::Live | State::Stopped);
        let gone = evidence.host(row).is_some_and(|host| host.state == "terminated");
        if idle && gone && row.fault.is_none() && row.hold.is_none() {
            let what = format!(
                "it is in {} and shows no fault, but its machine is gone",
                row.state
            );
            broken.push(Broken::new("a_gone_machine_is_noticed", Some(row.id), what));
        }
    }
    broken
}

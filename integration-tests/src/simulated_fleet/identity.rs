//! The remote commands that concern who a host is and whom it lets in.

use russh::keys::{HashAlg, PublicKey};

use super::commands::{Outcome, variable};
use super::host::{Host, Machine};
use super::ledger::Event;
use super::{Shared, lock};

pub(super) fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

fn key_in(line: &str, name: &str) -> Option<PublicKey> {
    PublicKey::from_openssh(&variable(line, name)?).ok()
}

/// Does what the command of this name does.
pub(super) fn play(name: &str, line: &str, host: &Host, shared: &Shared) -> Outcome {
    let done = match name {
        "make_host_key" => return make_host_key(host),
        "install_host_key" => install_host_key(line, host),
        "erase_host_key" => Ok(erase_host_key(host)),
        "authorize_key" => authorize_key(line, host),
        _ => deauthorize_key(line, host),
    };
    match done {
        Ok(event) => {
            if let Some(event) = event {
                shared.record(host, event);
            }
            Outcome::default()
        }
        Err(why) => Outcome::failed(1, format!("{why}\n")),
    }
}

/// Keeps the one that was made before.
fn make_host_key(host: &Host) -> Outcome {
    let new = host.new_ssh_key();
    let mut machine = lock(&host.machine);
    let made = machine.made_host_key.get_or_insert(new);
    Outcome::printed(format!(
        "{}\n",
        made.public_key().to_openssh().unwrap_or_default()
    ))
}

/// For new connections: those that are open live on.
fn install_host_key(line: &str, host: &Host) -> Result<Option<Event>, &'static str> {
    let wanted = key_in(line, "GATEWAYZEN_HOST_KEY").ok_or("no key is named")?;
    let before = key_in(line, "GATEWAYZEN_HOST_KEY_BEFORE").ok_or("no former key is named")?;
    let mut machine = lock(&host.machine);
    let is = |key: &PublicKey, other: &PublicKey| key.key_data() == other.key_data();
    if is(machine.host_key.public_key(), &wanted) {
        return Ok(None);
    }
    if !is(machine.host_key.public_key(), &before) {
        return Err("the SSH server of this host does not use that file");
    }
    let made = machine.made_host_key.clone();
    let made = made
        .filter(|key| is(key.public_key(), &wanted))
        .ok_or("the new key is not there")?;
    machine.host_key = made;
    let fingerprint = fingerprint(&wanted);
    Ok(Some(Event::HostKeyInstalled { fingerprint }))
}

fn erase_host_key(host: &Host) -> Option<Event> {
    let mut machine = lock(&host.machine);
    machine.made_host_key = None;
    let erased = std::mem::replace(&mut machine.launch_key_erased, true);
    (!erased).then_some(Event::LaunchKeyErased)
}

fn admits(machine: &Machine, key: &PublicKey) -> bool {
    machine.admits.iter().any(|one| one.key_data() == key.key_data())
}

fn authorize_key(line: &str, host: &Host) -> Result<Option<Event>, &'static str> {
    let key = key_in(line, "GATEWAYZEN_SSH_KEY").ok_or("no key is named")?;
    let mut machine = lock(&host.machine);
    if admits(&machine, &key) {
        return Ok(None);
    }
    let fingerprint = fingerprint(&key);
    machine.admits.push(key);
    Ok(Some(Event::LoginKeyAdded { fingerprint }))
}

fn deauthorize_key(line: &str, host: &Host) -> Result<Option<Event>, &'static str> {
    let key = key_in(line, "GATEWAYZEN_SSH_KEY").ok_or("no key is named")?;
    let kept = key_in(line, "GATEWAYZEN_SSH_KEY_KEPT").ok_or("no key that stays is named")?;
    let mut machine = lock(&host.machine);
    if !admits(&machine, &kept) {
        return Err("the key that must stay is not there, so nothing is taken out");
    }
    if !admits(&machine, &key) {
        return Ok(None);
    }
    machine.admits.retain(|one| one.key_data() != key.key_data());
    let fingerprint = fingerprint(&key);
    Ok(Some(Event::LoginKeyRemoved { fingerprint }))
}

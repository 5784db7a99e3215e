//! `gatewayzen secrets rotate`: everything that is under another key is sealed again under the first one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_core::Repository;
use gatewayzen_core::repository::{SealedRow, SecretKind};
use gatewayzen_core::seal::{KeyRing, key_id_of};
use gatewayzen_core::wallet::Wallet;
use serde_json::{Value, json};

use super::{BATCH, By, ring_of, some_of, words};
use crate::args::Act;
use crate::connect::Connections;
use crate::failure::{Ended, Failure};
use crate::output::Output;

/// How often a kind is gone through, since a worker's write during the one pass is met by the next.
const PASSES: usize = 5;
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What a rotation has done so far with one kind.
#[derive(Default)]
struct Done {
    resealed: u64,
    /// Written by a worker in the midst: its write stands.
    overtaken: u64,
    /// Names of gatewayds by the id of the key that is not there.
    without_key: BTreeMap<String, BTreeSet<String>>,
    /// Those that do not open although it is, each with its sentence.
    broken: BTreeSet<String>,
}

pub(super) async fn rotate(connections: &Connections, output: &Output, by: &Act) -> Result<(), Failure> {
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let mut kinds = Vec::new();
    for kind in SecretKind::ALL {
        kinds.push((kind, ring_of(&rings, settings, kind)?));
    }
    let repository = connections.repository().await?;
    let reason = by.reason.clone().unwrap_or_else(|| "keys are rotated".into());
    let by = By::new(by.person.clone(), reason);
    let to: BTreeMap<&str, &str> = kinds
        .iter()
        .map(|(kind, ring)| (kind.table(), ring.sealing_id()))
        .collect();
    let act = by
        .declare_of_all(&repository, "rotate-secrets", &json!({ "to": to }))
        .await?;
    let mut all = Vec::new();
    for (kind, ring) in kinds {
        let mut done = Done::default();
        for _ in 0..PASSES {
            let before = done.overtaken;
            pass(&repository, act, kind, ring, &mut done).await?;
            if done.overtaken == before {
                break;
            }
        }
        eprintln!(
            "{}: {} sealed again under \"{}\"",
            words(kind),
            done.resealed,
            ring.sealing_id()
        );
        all.push((kind, done));
    }
    let counts: Value = all
        .iter()
        .map(|(kind, done)| {
            let missing: BTreeMap<&String, usize> = done
                .without_key
                .iter()
                .map(|(key, names)| (key, names.len()))
                .collect();
            let told = json!({ "resealed": done.resealed, "overtaken": done.overtaken, "without_key": missing,
                "broken": done.broken.len() });
            (kind.table().to_owned(), told)
        })
        .collect::<serde_json::Map<_, _>>()
        .into();
    let details = json!({ "act": act, "counts": counts });
    by.declare_of_all(&repository, "rotate-secrets-ended", &details)
        .await?;
    if output.json {
        output.json(&counts)?;
    }
    told(&all, output)
}

/// What was left, and what to do about it.
fn told(all: &[(SecretKind, Done)], output: &Output) -> Result<(), Failure> {
    let mut left = false;
    for (kind, done) in all {
        for (key, names) in &done.without_key {
            left = true;
            let names: Vec<String> = names.iter().cloned().collect();
            eprintln!(
                "gatewayzen: {}: {} left under \"{key}\", which is not in the key ring ({}): put that key back and rotate again",
                words(*kind),
                names.len(),
                some_of(&names)
            );
        }
        for sentence in &done.broken {
            left = true;
            eprintln!("gatewayzen: {}: left as it is: {sentence}", words(*kind));
        }
    }
    if left {
        return Err(Failure::Said(Ended::Failed));
    }
    if !output.json {
        output.text(
            "all are under the first key; when every service has it first, and `gatewayzen secrets status` names no other \
             in use, the older keys may go\n",
        )?;
    }
    Ok(())
}

/// Goes once through all that is not under the first key.
async fn pass(
    repository: &Repository,
    act: i64,
    kind: SecretKind,
    ring: &KeyRing,
    done: &mut Done,
) -> Result<(), Failure> {
    let (first, mut after, mut told) = (ring.sealing_id(), None, Instant::now());
    loop {
        let batch = repository
            .sealed_batch(act, kind, Some(first), after.as_deref(), BATCH)
            .await?;
        let Some(last) = batch.last() else {
            return Ok(());
        };
        after = Some(last.place.clone());
        let mut again = Vec::new();
        for row in batch {
            match key_id_of(&row.sealed) {
                Ok(key) if !ring.has(key) => {
                    done.without_key
                        .entry(key.to_owned())
                        .or_default()
                        .insert(row.name);
                    continue;
                }
                _ => {}
            }
            match sealed_again(ring, kind, &row) {
                Ok(new) => again.push((row.place_row, row.sealed, new)),
                Err(why) => drop(done.broken.insert(format!("{}: {why}", row.name))),
            }
        }
        if !again.is_empty() {
            let kept = repository.reseal(act, kind, first, &again).await?;
            done.resealed += kept.len() as u64;
            done.overtaken += (again.len() - kept.len()) as u64;
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            eprintln!("{}: {} sealed again so far", words(kind), done.resealed);
        }
    }
}

/// The secret under the first key, for the row that takes it. It was opened again and is the same: for a seed, it gives the
/// same address.
fn sealed_again(ring: &KeyRing, kind: SecretKind, row: &SealedRow) -> Result<Vec<u8>, String> {
    let secret = ring
        .open(kind.place(&row.place_row), &row.sealed)
        .map_err(|error| error.to_string())?;
    let next = kind
        .next_row(&row.place_row)
        .ok_or_else(|| format!("its row {} has no next version", row.place_row))?;
    let place = kind.place(&next);
    let new = ring
        .seal(place, secret.expose())
        .map_err(|error| error.to_string())?;
    let opened = ring.open(place, &new).map_err(|error| error.to_string())?;
    if opened.expose() != secret.expose() {
        return Err("sealed again it opened to something else: nothing was kept".into());
    }
    if let Some(address) = &row.address {
        let wallet = opened
            .expose_str()
            .ok()
            .and_then(|seed| Wallet::from_seed(seed).ok());
        if wallet.is_none_or(|wallet| wallet.address() != address) {
            return Err(format!(
                "its seed is not that of {address}: restore it from a backup"
            ));
        }
    }
    Ok(new)
}

//! `gatewayzen secrets status`: how many secrets are under which key, and does each open?

use std::collections::BTreeSet;

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_bootstrap::settings::Secrets as Settings;
use gatewayzen_core::Repository;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::KeyRing;
use serde_json::json;

use super::{BATCH, By, export, ring_of, some_of, words};
use crate::args::Act;
use crate::connect::Connections;
use crate::failure::{Ended, Failure};
use crate::output::Output;

/// What became of opening the secrets of a kind.
#[derive(Default)]
struct Tried {
    open: usize,
    /// Names of gatewayds whose key is not there.
    without_key: Vec<String>,
    /// Those that do not open although it is, each with its sentence.
    broken: Vec<String>,
}

pub(super) async fn status(connections: &Connections, output: &Output, by: &Act) -> Result<(), Failure> {
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let repository = connections.repository().await?;
    let counts = repository.sealed_counts().await?;
    let reason = by
        .reason
        .clone()
        .unwrap_or_else(|| "gatewayzen secrets status".into());
    let by = By::new(by.person.clone(), reason);
    let act = by
        .declare_of_all(&repository, "check-secrets", &json!({}))
        .await?;

    let (mut kinds, mut text) = (Vec::new(), String::new());
    let (mut put_back, mut wrong) = (BTreeSet::new(), false);
    for kind in SecretKind::ALL {
        let ring = ring(&rings, settings, kind);
        let tried = match ring {
            Some(ring) => Some(try_all(&repository, act, kind, ring).await?),
            None => None,
        };
        let of_kind = || counts.iter().filter(|count| count.kind == kind.table());
        text.push_str(&format!("{}\n", words(kind)));
        if of_kind().next().is_none() {
            text.push_str("  none\n");
        }
        for count in of_kind() {
            let key = count.key.as_deref();
            let has = key.and_then(|key| Some(ring?.has(key)));
            let first = ring.is_some_and(|ring| Some(ring.sealing_id()) == key);
            let note = match (count.in_use, key, has) {
                (_, None, _) => "not sealed values",
                (false, ..) => "former versions, which nothing opens any more",
                (true, _, Some(true)) if first => "the first key",
                (true, _, Some(true)) => "to be rotated",
                (true, _, Some(false)) => "MISSING KEY",
                (true, _, None) => "no ring is set here, so they were not tried",
            };
            let name = key.map_or_else(|| "-".to_owned(), |key| format!("\"{key}\""));
            text.push_str(&format!("  {:>8} under {name}: {note}\n", count.rows));
            if count.in_use && has == Some(false) {
                put_back.extend(key.map(str::to_owned));
            }
        }
        if let Some(tried) = &tried {
            wrong |= !tried.without_key.is_empty() || !tried.broken.is_empty();
            text.push_str(&format!("  {:>8} open\n", tried.open));
            if !tried.without_key.is_empty() {
                let names = some_of(&tried.without_key);
                text.push_str(&format!(
                    "  {:>8} do not open for want of a key: {names}\n",
                    tried.without_key.len()
                ));
            }
            for sentence in &tried.broken {
                text.push_str(&format!("  does not open: {sentence}\n"));
            }
        }
        kinds.push(json!({
            "table": kind.table(),
            "keys": of_kind().map(|count| json!({ "key": count.key, "rows": count.rows, "in_use": count.in_use,
                "in_ring": count.key.as_deref().and_then(|key| Some(ring?.has(key))) })).collect::<Vec<_>>(),
            "first_key": ring.map(KeyRing::sealing_id),
            "open": tried.as_ref().map(|tried| tried.open),
            "without_key": tried.as_ref().map(|tried| tried.without_key.clone()),
            "broken": tried.as_ref().map(|tried| tried.broken.clone()),
        }));
    }
    let put_back: Vec<String> = put_back.into_iter().collect();
    if output.json {
        output.json(&json!({ "kinds": kinds, "put_back": put_back }))?;
    } else {
        output.text(&text)?;
    }
    if !put_back.is_empty() {
        eprintln!(
            "gatewayzen: put these keys back into the key ring: {}",
            put_back.join(", ")
        );
    }
    match wrong || !put_back.is_empty() {
        true => Err(Failure::Said(Ended::Failed)),
        false => Ok(()),
    }
}

fn ring<'a>(rings: &'a Rings, settings: &Settings, kind: SecretKind) -> Option<&'a KeyRing> {
    ring_of(rings, settings, kind).ok()
}

/// Opens every secret of a kind and forgets it.
async fn try_all(
    repository: &Repository,
    act: i64,
    kind: SecretKind,
    ring: &KeyRing,
) -> Result<Tried, Failure> {
    let (mut tried, mut after) = (Tried::default(), None);
    loop {
        let batch = repository
            .sealed_batch(act, kind, None, after.as_deref(), BATCH)
            .await?;
        let Some(last) = batch.last() else {
            return Ok(tried);
        };
        after = Some(last.place.clone());
        for row in batch {
            let key = gatewayzen_core::seal::key_id_of(&row.sealed);
            if key.is_ok_and(|key| !ring.has(key)) {
                tried.without_key.push(row.name);
                continue;
            }
            let opened = match kind {
                SecretKind::WalletSeeds => export::opened(ring, &row).map(drop),
                _ => ring
                    .open(kind.place(&row.place_row), &row.sealed)
                    .map(drop)
                    .map_err(|error| error.to_string()),
            };
            match opened {
                Ok(()) => tried.open += 1,
                Err(why) => tried.broken.push(format!("{}: {why}", row.name)),
            }
        }
    }
}

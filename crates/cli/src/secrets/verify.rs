//! `gatewayzen secrets verify-backup`: does it open, whole, and to the right addresses?

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_core::Repository;
use gatewayzen_core::backup::{self, Summary};
use serde_json::json;

use super::some_of;
use crate::connect::Connections;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::count;

/// What a backup holds of a gatewayd.
struct Found {
    name: String,
    address: String,
}

pub(super) async fn verify(
    connections: &Connections,
    output: &Output,
    path: &Path,
    offline: bool,
) -> Result<(), Failure> {
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let keys = rings.need_backups(settings)?;
    let place = path.display().to_string();
    let unread = |error: std::io::Error| Failure::Failed(format!("{place} cannot be read: {error}"));
    let whole = std::fs::canonicalize(path).map_err(unread)?.display().to_string();
    let file = BufReader::new(File::open(path).map_err(unread)?);
    let repository = match offline {
        true => None,
        false => Some(connections.repository().await?),
    };
    let fleet = match &repository {
        Some(repository) => Some(repository.fleet_id().await?),
        None => None,
    };
    let mut found = BTreeMap::new();
    let summary = backup::read(file, keys, fleet, |opened| {
        let address = opened.wallet.address().to_owned();
        found.insert(
            opened.gatewayd,
            Found {
                name: opened.name,
                address,
            },
        );
    })
    .map_err(|error| Failure::Failed(format!("{place}: {error}")))?;
    let wallets = count(usize::try_from(summary.wallets).unwrap_or(usize::MAX), "wallet");
    let mut text = format!(
        "{place} is whole: {wallets}, made {}, sealed with backup key \"{}\"; each opens and gives its address\n",
        summary.made_at, summary.key
    );
    let Some(repository) = repository else {
        if output.json {
            return output.json(
                &json!({ "wallets": summary.wallets, "fleet": summary.fleet.to_string(),
                "made_at": summary.made_at, "key": summary.key, "digest": summary.digest, "recorded": 0 }),
            );
        }
        text.push_str(&format!(
            "it is of fleet {}; the database was not asked, and nothing was recorded\n",
            summary.fleet
        ));
        return output.text(&text);
    };
    let missing = compared_and_recorded(&repository, &found, &summary, &whole).await?;
    if output.json {
        return output.json(
            &json!({ "wallets": summary.wallets, "fleet": summary.fleet.to_string(),
            "made_at": summary.made_at, "key": summary.key, "digest": summary.digest,
            "recorded": found.len(), "missing": missing }),
        );
    }
    text.push_str("each address is the database's, which counts it as a backup from now on\n");
    if !missing.is_empty() {
        let number = count(missing.len(), "wallet");
        text.push_str(&format!(
            "not in it: {number} of the database: {}; export again for those\n",
            some_of(&missing)
        ));
    }
    output.text(&text)
}

/// Compares every address with the database's, records the backup of each wallet if all are right, and returns whose wallets
/// are not in it.
async fn compared_and_recorded(
    repository: &Repository,
    found: &BTreeMap<i64, Found>,
    summary: &Summary,
    place: &str,
) -> Result<Vec<String>, Failure> {
    let known: BTreeMap<i64, _> = repository
        .public_wallets()
        .await?
        .into_iter()
        .map(|wallet| (wallet.id, wallet))
        .collect();
    for (id, Found { name, address }) in found {
        let problem = match known.get(id) {
            Some(wallet) if wallet.address == *address => continue,
            Some(wallet) => format!(
                "it has the wallet {address} for gatewayd {id}, and the database has {} ({})",
                wallet.address, wallet.name
            ),
            None => {
                format!("it has a wallet of gatewayd {id} (\"{name}\"), and the database has none for it")
            }
        };
        return Err(Failure::Failed(format!(
            "{place} opens, and does not fit this database: {problem}; nothing was recorded. Keep the file, and find out \
             which of the two is older"
        )));
    }
    for (id, Found { address, .. }) in found {
        let recorded = repository
            .record_wallet_backup(*id, address, place, &summary.digest)
            .await?;
        if !recorded {
            return Err(Failure::Failed(format!(
                "{address} is not the wallet of gatewayd {id} any more; nothing more was recorded"
            )));
        }
    }
    let missing = known.values().filter(|wallet| !found.contains_key(&wallet.id));
    Ok(missing.map(|wallet| wallet.name.clone()).collect())
}

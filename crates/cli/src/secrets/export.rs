//! `gatewayzen secrets export`: all wallets, in one file that only the backup keys open.

use std::io::BufWriter;
use std::path::Path;

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_core::backup::{BackupError, BackupWriter};
use gatewayzen_core::repository::{SealedRow, SecretKind};
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::wallet::Wallet;
use serde_json::json;

use super::file::NewFile;
use super::{BATCH, By, some_of};
use crate::connect::Connections;
use crate::failure::{Ended, Failure};
use crate::output::Output;
use crate::text::count;

const KIND: SecretKind = SecretKind::WalletSeeds;

pub(super) async fn export(
    connections: &Connections,
    output: &Output,
    path: &Path,
    by: &By,
) -> Result<(), Failure> {
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let (ring, backups) = (rings.need_wallets(settings)?, rings.need_backups(settings)?);
    let file = NewFile::create(path)?;
    let repository = connections.repository().await?;
    let fleet = repository.fleet_id().await?;
    let details = json!({ "file": path.display().to_string(), "key": backups.sealing_id() });
    let act = by.declare_of_all(&repository, "export-wallets", &details).await?;

    let unwritten =
        |error: BackupError| Failure::Failed(format!("{} cannot be written: {error}", path.display()));
    let mut writer = BackupWriter::new(BufWriter::new(file), fleet, backups).map_err(unwritten)?;
    let (mut after, mut unopened) = (None, Vec::new());
    loop {
        let batch = repository
            .sealed_batch(act, KIND, None, after.as_deref(), BATCH)
            .await?;
        let Some(last) = batch.last() else { break };
        after = Some(last.place.clone());
        for row in &batch {
            match opened(ring, row) {
                Ok(wallet) => writer.add(row.id, &row.name, &wallet).map_err(unwritten)?,
                Err(why) => {
                    eprintln!("gatewayzen: {}: {why}", row.name);
                    unopened.push(row.name.clone());
                }
            }
        }
    }
    let (buffer, wallets) = writer.finish().map_err(unwritten)?;
    let file = buffer
        .into_inner()
        .map_err(|error| unwritten(BackupError::Io(error.into_error())))?;
    file.finish()?;
    let details = json!({ "act": act, "file": path.display().to_string(), "wallets": wallets, "left_out": unopened.len() });
    by.declare_of_all(&repository, "export-wallets-ended", &details)
        .await?;

    let place = path.display();
    if output.json {
        output.json(&json!({ "file": place.to_string(), "wallets": wallets, "left_out": unopened }))?;
    } else {
        output.text(&format!(
            "{} in {place}, sealed with backup key \"{}\"\nbring it to where it shall stay, and run `gatewayzen secrets \
             verify-backup` on it there\n",
            count(usize::try_from(wallets).unwrap_or(usize::MAX), "wallet"),
            backups.sealing_id()
        ))?;
    }
    if unopened.is_empty() {
        return Ok(());
    }
    eprintln!(
        "gatewayzen: left out, since they do not open: {}; run `gatewayzen secrets status`",
        some_of(&unopened)
    );
    Err(Failure::Said(Ended::Failed))
}

/// The wallet of a row, whose seed gave its address.
pub(super) fn opened(ring: &KeyRing, row: &SealedRow) -> Result<Wallet, String> {
    let seed = ring
        .open(KIND.place(&row.place_row), &row.sealed)
        .map_err(|error| error.to_string())?;
    let wallet = seed
        .expose_str()
        .ok()
        .and_then(|seed| Wallet::from_seed(seed).ok());
    let address = row.address.as_deref().unwrap_or_default();
    match wallet {
        Some(wallet) if wallet.address() == address => Ok(wallet),
        Some(wallet) => Err(format!(
            "the seed that is kept for {address} is that of another wallet, {}: restore it from a backup",
            wallet.address()
        )),
        None => Err(format!(
            "what is kept as the seed of {address} is no seed: restore it from a backup"
        )),
    }
}

//! `gatewayzen secrets reveal`: one secret, for one person, on record.

use std::path::Path;

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::wallet::Wallet;
use serde_json::json;

use super::file::NewFile;
use super::{By, ring_of};
use crate::args::Revealed;
use crate::connect::Connections;
use crate::failure::Failure;
use crate::output::Output;

pub(super) async fn reveal(
    connections: &Connections,
    output: &Output,
    name: &str,
    what: Revealed,
    to: Option<&Path>,
    by: &By,
) -> Result<(), Failure> {
    // Before anything is on record or opened: where would it go?
    let file = match to {
        Some(path) => Some(NewFile::create(path)?),
        None if output.terminal => None,
        None => {
            return Err(Failure::Failed(
                "a secret is shown on a terminal only, and standard output is none: run this in one, or name a new \
                 file with --to"
                    .into(),
            ));
        }
    };
    let (kind, action, words) = match what {
        Revealed::ApiKey => (SecretKind::ApiKeys, "reveal-api-key", "API key"),
        Revealed::Wallet => (SecretKind::WalletSeeds, "reveal-wallet", "cold wallet"),
    };
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let ring = ring_of(&rings, settings, kind)?;
    let repository = connections.repository().await?;
    let to_file = to.map(|path| path.display().to_string());
    let details = json!({ "to": to_file.as_deref().unwrap_or("a terminal") });
    let Some(act) = by.declare(&repository, action, Some(name), &details).await? else {
        return match repository.gatewayd_named(name).await? {
            None => Err(Failure::no_such_name(name)),
            Some(_) => Err(Failure::Failed(format!("\"{name}\" has no {words} yet"))),
        };
    };
    let gone = || Failure::Failed(format!("the {words} of \"{name}\" is not there any more"));
    let sealed = repository.secret_to_reveal(act).await?.ok_or_else(gone)?;
    let secret = ring
        .open(kind.place(&sealed.place_row), &sealed.sealed)
        .map_err(|error| Failure::Failed(format!("the {words} of \"{name}\" cannot be opened: {error}")))?;
    if let Some(address) = &sealed.address {
        let wallet = secret
            .expose_str()
            .ok()
            .and_then(|seed| Wallet::from_seed(seed).ok());
        if wallet.is_none_or(|wallet| wallet.address() != address) {
            return Err(Failure::Failed(format!(
                "what is kept as the seed of \"{name}\" is not that of its address {address}; run `gatewayzen secrets status`"
            )));
        }
    }
    let write = |to: &mut dyn std::io::Write| {
        to.write_all(secret.expose())
            .and_then(|()| to.write_all(b"\n"))
            .and_then(|()| to.flush())
            .map_err(|error| Failure::Failed(format!("the {words} cannot be written: {error}")))
    };
    match (file, to_file) {
        (Some(mut file), Some(path)) => {
            write(&mut file)?;
            file.finish()?;
            let address = sealed
                .address
                .map(|address| format!(" {address}"))
                .unwrap_or_default();
            eprintln!("the {words}{address} of {name} is in {path}; act {act} of the audit says so");
            Ok(())
        }
        _ => {
            eprintln!("the {words} of {name}; act {act} of the audit says that you saw it");
            write(&mut std::io::stdout().lock())
        }
    }
}

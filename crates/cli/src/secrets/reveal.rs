//! `gatewayzen secrets reveal`: one secret, for one person, on record.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_core::Repository;
use gatewayzen_core::backup;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::{KeyRing, SecretBytes};
use gatewayzen_core::wallet::Wallet;
use serde_json::json;

use super::file::NewFile;
use super::{By, ring_of};
use crate::args::Revealed;
use crate::connect::Connections;
use crate::failure::Failure;
use crate::output::Output;

/// What somebody wants to see, and where.
pub(super) struct Asked {
    pub(super) name: String,
    pub(super) what: Revealed,
    pub(super) to: Option<PathBuf>,
    pub(super) backup: Option<PathBuf>,
    pub(super) offline: bool,
}

impl Asked {
    fn words(&self) -> &'static str {
        match self.what {
            Revealed::ApiKey => "API key",
            Revealed::Wallet => "cold wallet",
        }
    }

    fn kind(&self) -> SecretKind {
        match self.what {
            Revealed::ApiKey => SecretKind::ApiKeys,
            Revealed::Wallet => SecretKind::WalletSeeds,
        }
    }
}

/// A secret that was opened.
struct Opened {
    secret: SecretBytes,
    /// Of a wallet.
    address: Option<String>,
}

pub(super) async fn reveal(
    connections: &Connections,
    output: &Output,
    asked: &Asked,
    by: &By,
) -> Result<(), Failure> {
    // Before anything is on record or opened: where would it go, and is there a key?
    let file = asked.to.as_deref().map(NewFile::create).transpose()?;
    if file.is_none() && !output.terminal {
        return Err(Failure::Failed(
            "a secret is shown on a terminal only, and standard output is none: run this in one, or name a new file \
             with --to"
                .into(),
        ));
    }
    if asked.backup.is_some() && asked.what != Revealed::Wallet {
        return Err(Failure::Failed(
            "a backup has wallets only: ask for `wallet`, or leave --backup out".into(),
        ));
    }
    let settings = &connections.settings.secrets;
    let rings = Rings::all(settings)?;
    let ring = match asked.backup {
        Some(_) => rings.need_backups(settings)?,
        None => ring_of(&rings, settings, asked.kind())?,
    };
    let (opened, record) = if asked.offline {
        (
            None,
            "no record was made, since the database was not asked".to_owned(),
        )
    } else {
        let repository = connections.repository().await?;
        let act = declared(&repository, asked, by).await?;
        let opened = match asked.backup {
            Some(_) => None,
            None => Some(from_database(&repository, asked, act, ring).await?),
        };
        (opened, format!("act {act} of the audit says so"))
    };
    let opened = match (opened, &asked.backup) {
        (Some(opened), _) => opened,
        (None, Some(path)) => from_backup(path, &asked.name, ring)?,
        (None, None) => return Err(Failure::Failed("without the database, name a --backup".into())),
    };
    shown(asked, &opened, file, &record)
}

/// Puts the act on record; its number.
async fn declared(repository: &Repository, asked: &Asked, by: &By) -> Result<i64, Failure> {
    let action = match asked.what {
        Revealed::ApiKey => "reveal-api-key",
        Revealed::Wallet => "reveal-wallet",
    };
    let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let details = json!({ "to": text(&asked.to).unwrap_or_else(|| "a terminal".into()), "backup": text(&asked.backup) });
    let name = &asked.name;
    if let Some(act) = by.declare(repository, action, Some(name), &details).await? {
        return Ok(act);
    }
    Err(match repository.gatewayd_named(name).await? {
        None => Failure::no_such_name(name),
        Some(_) => Failure::Failed(format!("\"{name}\" has no {} yet", asked.words())),
    })
}

async fn from_database(
    repository: &Repository,
    asked: &Asked,
    act: i64,
    ring: &KeyRing,
) -> Result<Opened, Failure> {
    let (name, words) = (&asked.name, asked.words());
    let sealed = repository
        .secret_to_reveal(act)
        .await?
        .ok_or_else(|| Failure::Failed(format!("the {words} of \"{name}\" is not there any more")))?;
    let secret = ring
        .open(asked.kind().place(&sealed.place_row), &sealed.sealed)
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
    Ok(Opened {
        secret,
        address: sealed.address,
    })
}

/// The wallet of a gatewayd, by its name or the wallet's address. The whole file must verify.
fn from_backup(path: &Path, name: &str, ring: &KeyRing) -> Result<Opened, Failure> {
    let place = path.display();
    let file =
        File::open(path).map_err(|error| Failure::Failed(format!("{place} cannot be read: {error}")))?;
    let mut found = None;
    backup::read(BufReader::new(file), ring, None, |opened| {
        if opened.name == name || opened.wallet.address() == name {
            found = Some(opened.wallet);
        }
    })
    .map_err(|error| Failure::Failed(format!("{place}: {error}")))?;
    let wallet = found.ok_or_else(|| Failure::Failed(format!("{place} has no wallet of \"{name}\"")))?;
    Ok(Opened {
        secret: wallet.seed().clone(),
        address: Some(wallet.address().to_owned()),
    })
}

fn shown(asked: &Asked, opened: &Opened, file: Option<NewFile>, record: &str) -> Result<(), Failure> {
    let words = asked.words();
    let write = |to: &mut dyn Write| {
        to.write_all(opened.secret.expose())
            .and_then(|()| to.write_all(b"\n"))
            .and_then(|()| to.flush())
            .map_err(|error| Failure::Failed(format!("the {words} cannot be written: {error}")))
    };
    let address = opened.address.as_deref().unwrap_or_default();
    let what = format!("the {words} {address}").trim_end().to_owned();
    match (file, &asked.to) {
        (Some(mut file), Some(path)) => {
            write(&mut file)?;
            file.finish()?;
            eprintln!("{what} of {} is in {}; {record}", asked.name, path.display());
            Ok(())
        }
        _ => {
            eprintln!("{what} of {}; {record}", asked.name);
            write(&mut std::io::stdout().lock())
        }
    }
}

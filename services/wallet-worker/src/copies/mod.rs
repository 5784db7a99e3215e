//! Copies of wallets outside Postgres: for each wallet a backup file of its own, in a folder.

mod carry;
mod folder;

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use gatewayzen_core::StepError;
use gatewayzen_core::backup::{self, BackupError, BackupWriter};
use gatewayzen_core::crash;
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::wallet::Wallet;
use uuid::Uuid;

pub use carry::Carrier;

/// Where copies go, and the keys that seal them.
#[derive(Debug)]
pub struct Copies {
    keys: Arc<KeyRing>,
    folder: PathBuf,
    carrier: Option<Carrier>,
}

/// A copy that was read back, opened, and gave the wallet's address.
#[derive(Debug, PartialEq, Eq)]
pub struct Copy {
    /// Its file.
    pub place: String,
    /// SHA-256 of the whole file, in hex.
    pub digest: String,
}

impl Copies {
    /// Copies to `place`, as `secrets.wallet_copies` names it, sealed with the first of the backup keys, and on with
    /// the carrier.
    #[must_use]
    pub fn new(place: &str, keys: KeyRing, carrier: Option<Carrier>) -> Self {
        Self {
            keys: Arc::new(keys),
            folder: place.into(),
            carrier,
        }
    }

    /// Keeps a copy of the wallet. A copy that is there already is never overwritten: it counts if it opens to the same
    /// address. When this returns, the copy is on disk and was seen to open.
    ///
    /// # Errors
    /// There is no such copy. Nothing may hear of the wallet then.
    pub async fn keep(&self, fleet: Uuid, id: i64, name: &str, wallet: Wallet) -> Result<Copy, StepError> {
        let (keys, name) = (Arc::clone(&self.keys), name.to_owned());
        let path = self.folder.join(file_name(wallet.address()));
        let place = path.display().to_string();
        let file = path.clone();
        let keeping = tokio::task::spawn_blocking(move || -> Result<String, Trouble> {
            let written = folder::write_new(&path, || content(fleet, &keys, id, &name, &wallet))?;
            let found = folder::read(&path)?;
            verified(&found, &keys, fleet, id, wallet.address()).map_err(|problem| {
                if written {
                    Trouble::ReadBack(problem)
                } else {
                    Trouble::Other(problem)
                }
            })
        });
        let kept = crash::around("copy_wallet", keeping).await;
        let kept = kept.unwrap_or_else(|_| Err(Trouble::Io(std::io::Error::other("the writer broke down"))));
        let digest = kept.map_err(|trouble| trouble.told(&place))?;
        if let Some(carrier) = &self.carrier {
            let carried = crash::around("carry_wallet_copy", carrier.carry(&file)).await;
            carried.map_err(|problem| Trouble::NotCarried(problem).told(&place))?;
        }
        Ok(Copy { place, digest })
    }
}

/// The address is in the name, so that a file can be found by it, and no two wallets share one.
fn file_name(address: &str) -> String {
    format!("wallet-{address}.backup")
}

fn content(
    fleet: Uuid,
    keys: &KeyRing,
    id: i64,
    name: &str,
    wallet: &Wallet,
) -> Result<Vec<u8>, BackupError> {
    let mut writer = BackupWriter::new(Vec::new(), fleet, keys)?;
    writer.add(id, name, wallet)?;
    Ok(writer.finish()?.0)
}

/// The digest of a file that holds the wallet and nothing else; or what is wrong with it.
fn verified(file: &[u8], keys: &KeyRing, fleet: Uuid, id: i64, address: &str) -> Result<String, BackupError> {
    let mut found = Vec::new();
    let summary = backup::read(Cursor::new(file), keys, Some(fleet), |opened| {
        found.push((opened.gatewayd, opened.wallet.address().to_owned()));
    })?;
    match found.as_slice() {
        [(gatewayd, found)] if *gatewayd == id && found == address => Ok(summary.digest),
        _ => Err(BackupError::OtherWallet {
            line: 2,
            address: address.to_owned(),
        }),
    }
}

/// Why there is no copy.
#[derive(Debug)]
enum Trouble {
    /// It cannot be written or read.
    Io(std::io::Error),
    /// It cannot be made.
    NotMade(BackupError),
    /// What was just written does not verify.
    ReadBack(BackupError),
    /// The command that carries it further did not.
    NotCarried(String),
    /// What stood there already does not.
    Other(BackupError),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Trouble::Io(error)
    }
}

const UNHEARD: &str = "Nothing was told to gatewayd.";

impl Trouble {
    fn told(self, place: &str) -> StepError {
        match self {
            Trouble::Io(error) => StepError::environment(
                format!("no copy of a cold wallet can be kept at {place}: {error}"),
                format!(
                    "Let the wallet-worker's user write there, or set secrets.wallet_copies to another place. {UNHEARD}"
                ),
            ),
            Trouble::NotMade(error) => StepError::environment(
                format!("no copy of a cold wallet could be made: {error}"),
                format!("See why this machine has no random source. {UNHEARD}"),
            ),
            Trouble::ReadBack(error) => StepError::environment(
                format!("the copy at {place} was written and does not verify: {error}"),
                format!("See whether that disk is sound; move the file away, do not delete it. {UNHEARD}"),
            ),
            Trouble::NotCarried(problem) => StepError::environment(
                format!("the copy at {place} was not carried further: the command {problem}"),
                format!("Mend what secrets.wallet_copy_command names. {UNHEARD}"),
            ),
            Trouble::Other(error @ BackupError::UnknownKey { .. }) => StepError::transient(
                format!("the copy at {place} cannot be opened: {error}"),
                format!("Give this worker all the backup keys (secrets.backup_key_file). {UNHEARD}"),
            ),
            Trouble::Other(error) => StepError::permanent(
                format!("a file is at {place} already, and it is not the copy of this wallet: {error}"),
                format!("Move the file away, do not delete it; then retry. {UNHEARD}"),
            ),
        }
    }
}

#[cfg(test)]
mod tests;

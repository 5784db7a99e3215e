//! Reading a backup, and proving that it is whole and opens.

use std::io::{BufRead, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{
    BackupError, FORMAT, Header, Kind, LONGEST_LINE, Trailer, VERSION, WalletLine, seed_row, trailer_secret,
};
use crate::seal::{KeyRing, OpenError, Place, SecretBytes};
use crate::wallet::Wallet;

/// One wallet of a backup. Its seed has opened and given its address.
#[derive(Debug)]
pub struct Opened {
    /// The gatewayd's id.
    pub gatewayd: i64,
    /// Its name when the backup was made.
    pub name: String,
    /// The wallet itself.
    pub wallet: Wallet,
}

/// A backup that is whole, and of which each seed gave its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose wallets they are.
    pub fleet: Uuid,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// Id of the backup key that sealed it.
    pub key: String,
    /// How many wallets are in it.
    pub wallets: u64,
    /// SHA-256 of the whole file, in hex.
    pub digest: String,
}

/// Reads a whole backup, of this fleet if one is named. `each` gets every wallet, but only the summary says that the file
/// is whole: whoever collects what `each` gets must drop it on an error. Takes memory for one line at a time.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(
    from: impl BufRead,
    keys: &KeyRing,
    fleet: Option<Uuid>,
    mut each: impl FnMut(Opened),
) -> Result<Summary, BackupError> {
    let mut lines = Lines {
        from,
        number: 0,
        line: Vec::new(),
        hash: Sha256::new(),
    };
    let header = header(&mut lines, fleet)?;
    let mut wallets = 0_u64;
    loop {
        // Of the bytes before this line: what the trailer seals.
        let before = lines.hash.clone().finalize();
        if !lines.next()? {
            return Err(BackupError::CutOff(lines.number));
        }
        if let Ok(line) = serde_json::from_slice::<WalletLine>(&lines.line) {
            each(opened(keys, header.fleet, lines.number, line)?);
            wallets += 1;
            continue;
        }
        let trailer: Trailer =
            serde_json::from_slice(&lines.line).map_err(|_| BackupError::NotALine(lines.number))?;
        let sealed = BASE64
            .decode(&trailer.seal)
            .map_err(|_| BackupError::NotALine(lines.number))?;
        let row = header.fleet.to_string();
        let secret = keys.open(Place::backup_trailer(&row), &sealed).map_err(missing)?;
        let whole = secret.expose() == trailer_secret(wallets, &before) && trailer.wallets == wallets;
        if !whole {
            return Err(BackupError::NotWhole);
        }
        if lines.next().unwrap_or(true) {
            return Err(BackupError::AfterTheEnd);
        }
        return Ok(Summary {
            fleet: header.fleet,
            made_at: header.made_at,
            key: header.key,
            wallets,
            digest: hex::encode(lines.hash.finalize()),
        });
    }
}

fn header<R: BufRead>(lines: &mut Lines<R>, fleet: Option<Uuid>) -> Result<Header, BackupError> {
    match lines.next() {
        Ok(true) => {}
        Err(BackupError::Io(error)) => return Err(BackupError::Io(error)),
        _ => return Err(BackupError::NotABackup),
    }
    let kind: Kind = serde_json::from_slice(&lines.line).map_err(|_| BackupError::NotABackup)?;
    if kind.format != FORMAT {
        return Err(BackupError::NotABackup);
    }
    if kind.version != VERSION {
        return Err(BackupError::Newer(kind.version));
    }
    let header: Header = serde_json::from_slice(&lines.line).map_err(|_| BackupError::NotABackup)?;
    match fleet {
        Some(ours) if ours != header.fleet => Err(BackupError::OtherFleet {
            theirs: header.fleet,
            ours,
        }),
        _ => Ok(header),
    }
}

fn opened(keys: &KeyRing, fleet: Uuid, number: u64, line: WalletLine) -> Result<Opened, BackupError> {
    let WalletLine {
        gatewayd,
        name,
        address,
        key_type,
        seed,
    } = line;
    let sealed = BASE64.decode(&seed).map_err(|_| BackupError::NotALine(number))?;
    let row = seed_row(fleet, gatewayd, &address);
    let seed: SecretBytes = keys
        .open(Place::backup_seed(&row), &sealed)
        .map_err(|error| match error {
            OpenError::Tampered { id, .. } => BackupError::SeedSealed {
                line: number,
                address: address.clone(),
                id,
            },
            OpenError::Malformed(_) => BackupError::NotALine(number),
            OpenError::UnknownKey { .. } => missing(error),
        })?;
    let wallet = seed
        .expose_str()
        .ok()
        .and_then(|seed| Wallet::from_seed(seed).ok())
        .filter(|wallet| wallet.address() == address && wallet.key_type() == key_type);
    match wallet {
        Some(wallet) => Ok(Opened {
            gatewayd,
            name,
            wallet,
        }),
        None => Err(BackupError::OtherWallet {
            line: number,
            address,
        }),
    }
}

/// A key that is not there, or a seal that does not open.
fn missing(error: OpenError) -> BackupError {
    match error {
        OpenError::UnknownKey { id, known } => BackupError::UnknownKey { id, known },
        _ => BackupError::NotWhole,
    }
}

/// Lines that each end with a line feed, with the hash of all bytes so far.
struct Lines<R> {
    from: R,
    /// Of the line at hand, counted from 1.
    number: u64,
    line: Vec<u8>,
    hash: Sha256,
}

impl<R: BufRead> Lines<R> {
    /// The next line; false at the end of the file.
    fn next(&mut self) -> Result<bool, BackupError> {
        self.line.clear();
        // Whatever the file is, it takes no more memory than a line may have.
        let mut bounded = self.from.by_ref().take(LONGEST_LINE);
        if bounded.read_until(b'\n', &mut self.line)? == 0 {
            return Ok(false);
        }
        self.hash.update(&self.line);
        if self.line.pop() != Some(b'\n') {
            return match self.line.len() as u64 + 1 < LONGEST_LINE {
                true => Err(BackupError::CutOff(self.number)),
                false => Err(BackupError::NotALine(self.number + 1)),
            };
        }
        self.number += 1;
        Ok(true)
    }
}

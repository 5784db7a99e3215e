//! `gatewayzen secrets`: everything that a person does with what is sealed.

mod export;
mod file;
mod reveal;
mod rotate;
mod status;
mod verify;

use gatewayzen_bootstrap::keys::Rings;
use gatewayzen_bootstrap::settings::{ConfigError, Secrets as Settings};
use gatewayzen_core::Repository;
use gatewayzen_core::repository::SecretKind;
use gatewayzen_core::seal::KeyRing;
use serde_json::Value;

use crate::args::Secrets;
use crate::connect::Connections;
use crate::failure::{Failure, refusal};
use crate::output::Output;

/// How many secrets are read and kept at once: small, so that no transaction is long.
const BATCH: i32 = 100;

/// How many names a sentence lists.
const NAMES: usize = 10;

pub(crate) async fn secrets(connections: &Connections, output: &Output, act: Secrets) -> Result<(), Failure> {
    match act {
        Secrets::Status(by) => status::status(connections, output, &by).await,
        Secrets::Rotate(by) => rotate::rotate(connections, output, &by).await,
        Secrets::Reveal {
            name,
            what,
            reason,
            to,
            person,
            backup,
            offline,
        } => {
            let asked = reveal::Asked {
                name,
                what,
                to,
                backup,
                offline,
            };
            reveal::reveal(connections, output, &asked, &By::new(person, reason)).await
        }
        Secrets::Export { file, reason, person } => {
            export::export(connections, output, &file, &By::new(person, reason)).await
        }
        Secrets::VerifyBackup { file, offline } => verify::verify(connections, output, &file, offline).await,
    }
}

/// Who does it, and why.
struct By {
    person: Option<String>,
    reason: String,
}

impl By {
    fn new(person: Option<String>, reason: String) -> By {
        let person = person.or_else(|| std::env::var("USER").ok().filter(|user| !user.is_empty()));
        By { person, reason }
    }

    /// Puts an act on record. `None`: there is no such secret.
    async fn declare(
        &self,
        repository: &Repository,
        action: &str,
        name: Option<&str>,
        details: &Value,
    ) -> Result<Option<i64>, Failure> {
        let declared = repository
            .declare_secret_act(action, name, self.person.as_deref(), &self.reason, details)
            .await?;
        declared.map_err(|refused| Failure::Failed(refusal(&refused)))
    }

    /// Puts an act on record that concerns the whole fleet.
    async fn declare_of_all(
        &self,
        repository: &Repository,
        action: &str,
        details: &Value,
    ) -> Result<i64, Failure> {
        let act = self.declare(repository, action, None, details).await?;
        act.ok_or_else(|| Failure::Failed("the database did not put this act on record".into()))
    }
}

/// The ring that a kind of secret is under.
fn ring_of<'a>(rings: &'a Rings, settings: &Settings, kind: SecretKind) -> Result<&'a KeyRing, ConfigError> {
    match kind {
        SecretKind::WalletSeeds => rings.need_wallets(settings),
        SecretKind::ApiKeys | SecretKind::LaunchAttempts => rings.need_common(settings),
    }
}

/// A kind of secrets, in words.
fn words(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::WalletSeeds => "wallet seeds",
        SecretKind::ApiKeys => "API keys",
        SecretKind::LaunchAttempts => "user data of launches",
    }
}

/// The first few of many names.
fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

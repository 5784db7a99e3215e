//! Brings a gatewayd's cold wallet to the address that is kept for it.

use gatewayzen_core::StepError;

use crate::api::{Api, ColdWallet};
use crate::observe::count_check;

/// Sees to it that the gatewayd has this cold wallet, now and after its next restart. May be repeated at will:
/// a run that was cut short anywhere is mended by the next.
///
/// # Errors
/// The gatewayd has another wallet, which stays as it is; or it was not seen to have this one.
pub async fn converge(api: &Api, address: &str) -> Result<(), StepError> {
    let hint = match look(api, address).await? {
        ColdWallet::Set(found) if found != address => return Err(another(&found, address)),
        ColdWallet::Set(_) => "it was there before".to_owned(),
        ColdWallet::Unset => api.set_cold_wallet(address).await?,
    };
    // Always, since the answer of before cannot tell a saved wallet from one that the next restart forgets:
    // a worker may have died between the two calls.
    api.save().await.map_err(|error| error.with_context(&hint))?;
    // Only this tells whether it was set.
    match look(api, address).await? {
        ColdWallet::Set(found) if found == address => Ok(()),
        ColdWallet::Set(found) => Err(another(&found, address)),
        ColdWallet::Unset => Err(StepError::transient(
            format!("gatewayd was told the cold wallet {address} and still has none"),
            "See gatewayd's log on its host.",
        )
        .with_context(hint)),
    }
}

/// A wallet by its address. What is none may be a secret that somebody wrote into the wrong place, and is not shown.
fn named(found: &str) -> String {
    let address = found.starts_with('r')
        && (25..=35).contains(&found.len())
        && found.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if address {
        format!("the cold wallet {found}")
    } else {
        format!(
            "a cold wallet that is no address ({} characters, not shown)",
            found.chars().count()
        )
    }
}

/// Looks at the server's wallet, and counts what was seen.
async fn look(api: &Api, address: &str) -> Result<ColdWallet, StepError> {
    let seen = api.cold_wallet().await;
    count_check(match &seen {
        Ok(ColdWallet::Set(found)) if found == address => "ours",
        Ok(ColdWallet::Set(_)) => "another",
        Ok(ColdWallet::Unset) => "none",
        Err(_) => "no_answer",
    });
    seen
}

fn another(found: &str, kept: &str) -> StepError {
    StepError::permanent(
        format!(
            "gatewayd already has {}, but the one that is kept for it is {kept}; nothing was changed",
            named(found)
        ),
        "Find out whose wallet that is. If it must go, remove COLD_WALLET from gatewayd's config/config.json on its host \
         and restart gatewayd; then retry.",
    )
}

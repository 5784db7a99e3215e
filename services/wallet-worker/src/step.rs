//! The step `setColdWallet`.

use std::time::Duration;

use gatewayzen_bootstrap::settings::{ConnectVia, Settings, WalletKeyType};
use gatewayzen_core::repository::StoredWallet;
use gatewayzen_core::seal::{KeyRing, OpenError, Place, SecretBytes};
use gatewayzen_core::wallet::{KeyType, Wallet};
use gatewayzen_core::{Facts, Next, Step, StepError};
use gatewayzen_worker::https::{Fingerprint, PinnedClient, Timeouts};
use gatewayzen_worker::{StepContext, Steps};

use crate::api::Api;
use crate::converge::converge;
use crate::copies::Copies;

/// The wallet-worker's one step, and what it needs to know.
#[derive(Debug)]
pub struct WalletSteps {
    keys: KeyRing,
    wallet_keys: KeyRing,
    copies: Option<Copies>,
    connect_via: ConnectVia,
    port: u16,
    request_timeout: Duration,
    key_type: KeyType,
    api_user: String,
}

impl WalletSteps {
    /// The step with its settings, the keys that seal API keys, those that seal seeds, and where copies of wallets go, if
    /// anywhere.
    #[must_use]
    pub fn new(settings: &Settings, keys: KeyRing, wallet_keys: KeyRing, copies: Option<Copies>) -> Self {
        Self {
            keys,
            wallet_keys,
            copies,
            connect_via: settings.hosts.connect_via,
            port: settings.gatewayd.https_port,
            request_timeout: settings.gatewayd.request_timeout,
            key_type: match settings.wallet.key_type {
                WalletKeyType::Secp256k1 => KeyType::Secp256k1,
                WalletKeyType::Ed25519 => KeyType::Ed25519,
            },
            api_user: settings.wallet.api_user.clone(),
        }
    }

    /// The row's wallet, which is made here if there is none. When this returns, the wallet is committed, and its seed was
    /// seen to open.
    async fn wallet(&self, context: &StepContext) -> Result<Wallet, StepError> {
        let (repository, id) = (&context.repository, context.lease.id);
        if let Some(stored) = repository.wallet(id).await? {
            return self.proven(id, stored);
        }
        let wallet = Wallet::generate(self.key_type).map_err(not_made)?;
        let row = seed_row(id, 1);
        let sealed = self
            .wallet_keys
            .seal(Place::wallet_seed(&row), wallet.seed().expose())
            .map_err(not_made)?;
        let key_type = wallet.key_type().as_str();
        repository
            .keep_wallet(&context.lease, wallet.address(), key_type, &sealed)
            .await?
            .or_overtaken()?;
        // Read back: of two workers that made a wallet at once, the one that was kept first counts for both.
        match repository.wallet(id).await? {
            Some(stored) => self.proven(id, stored),
            None => Err(StepError::permanent(
                "the cold wallet was kept and cannot be read back",
                "Run `gatewayzen doctor`: the schema and this version may not fit.",
            )),
        }
    }

    /// Sees that a copy of the wallet is kept outside Postgres, where that is asked for.
    async fn copied(&self, context: &StepContext, wallet: Wallet) -> Result<(), StepError> {
        let Some(copies) = &self.copies else { return Ok(()) };
        let (repository, id) = (&context.repository, context.lease.id);
        let address = wallet.address().to_owned();
        if repository.has_wallet_backup(id, &address).await? {
            return Ok(());
        }
        let fleet = repository.fleet_id().await?;
        let copy = copies.keep(fleet, id, &context.gatewayd.name, wallet).await?;
        match repository
            .record_wallet_backup(id, &address, &copy.place, &copy.digest)
            .await?
        {
            true => Ok(()),
            false => Err(StepError::permanent(
                format!(
                    "{address} is not the cold wallet that this row has now, so that its copy was not recorded"
                ),
                "Look at the tables wallets and wallet_backups; then retry. Nothing was told to gatewayd.",
            )),
        }
    }

    /// The wallet, once the stored seed has opened to its address: an address whose key is lost must never be shown.
    fn proven(&self, id: i64, stored: StoredWallet) -> Result<Wallet, StepError> {
        let StoredWallet {
            address,
            version,
            sealed,
            ..
        } = stored;
        let row = seed_row(id, version);
        let seed = open(
            &self.wallet_keys,
            Place::wallet_seed(&row),
            &sealed,
            "the cold wallet's seed",
        )?;
        let opened = seed
            .expose_str()
            .ok()
            .and_then(|seed| Wallet::from_seed(seed).ok());
        match opened {
            Some(wallet) if wallet.address() == address => Ok(wallet),
            Some(wallet) => Err(StepError::permanent(
                format!(
                    "the seed that is kept for the cold wallet {address} (version {version}) is that of another, {}",
                    wallet.address()
                ),
                "Restore the table wallet_seeds from a backup; then retry. Nothing was told to gatewayd.",
            )),
            None => Err(StepError::permanent(
                format!(
                    "what is kept as the seed of the cold wallet {address} (version {version}) is not a seed"
                ),
                "Restore the table wallet_seeds from a backup; then retry. Nothing was told to gatewayd.",
            )),
        }
    }

    /// The row's gatewayd, as the `key` step left it to be known.
    async fn api(&self, context: &StepContext) -> Result<Api, StepError> {
        let row = &context.gatewayd;
        let Some(host) = self.connect_via.address(row) else {
            let via = self.connect_via.name();
            return Err(StepError::permanent(
                format!("the host has no {via} address, and the workers are set to dial that one"),
                "Give the instance such an address, or set hosts.connect_via; then retry.",
            ));
        };
        let pin = row
            .tls_fingerprint
            .as_deref()
            .ok_or_else(|| not_prepared("certificate"))?;
        let pin: Fingerprint = pin.parse().map_err(|error| {
            StepError::permanent(
                format!("the certificate that the row names cannot be pinned: {error}"),
                "Terminate the server and build it anew.",
            )
        })?;
        let id = context.lease.id;
        let sealed = context
            .repository
            .api_key(id)
            .await?
            .ok_or_else(|| not_prepared("API key"))?;
        let key = open(
            &self.keys,
            Place::api_key(&id.to_string()),
            &sealed,
            "gatewayd's API key",
        )?;
        let timeouts = Timeouts {
            connect: self.request_timeout,
            answer: self.request_timeout,
        };
        let client = PinnedClient::new(host, self.port, pin, timeouts).map_err(|error| {
            StepError::environment(
                format!("this build cannot speak TLS: {error}"),
                "Install another build.",
            )
        })?;
        Ok(Api::new(client, &self.api_user, key))
    }
}

impl Steps for WalletSteps {
    fn all(&self) -> &'static [Step] {
        &[Step::SetColdWallet]
    }

    async fn take(&self, context: &StepContext) -> Result<Next, StepError> {
        let unsafe_settings = context.repository.unsafe_durability().await?;
        if !unsafe_settings.is_empty() {
            return Err(not_durable(&unsafe_settings));
        }
        let wallet = self.wallet(context).await?;
        let address = wallet.address().to_owned();
        // Guards against the loss of Postgres right after: what a server heard can be found again elsewhere.
        self.copied(context, wallet).await?;
        converge(&self.api(context).await?, &address).await?;
        Ok(Next::Advance {
            done: format!("cold wallet {address} set, saved and seen"),
            facts: Facts {
                ripple_address: Some(address),
                ..Facts::default()
            },
        })
    }
}

fn open(keys: &KeyRing, place: Place<'_>, sealed: &[u8], what: &str) -> Result<SecretBytes, StepError> {
    keys.open(place, sealed).map_err(|error| match error {
        // Other workers may have the key, and this one may open what is sealed for other rows: so this row alone backs
        // off.
        OpenError::UnknownKey { .. } => StepError::transient(
            format!("{what} cannot be opened: {error}"),
            "Give this worker the key ring of the whole fleet (secrets.key_file, secrets.wallet_key_file).",
        ),
        _ => StepError::permanent(
            format!("{what} cannot be opened: {error}"),
            "Restore it from a backup, or give the worker the key with which it was sealed; then retry.",
        ),
    })
}

/// The primary key of a seed, to which its sealing is bound.
fn seed_row(id: i64, version: i32) -> String {
    format!("{id}/{version}")
}

fn not_durable(settings: &[&str]) -> StepError {
    StepError::environment(
        format!(
            "Postgres runs with {} off: a commit could be lost in a crash, and with it the key of a cold wallet",
            settings.join(" and ")
        ),
        "Turn it on in Postgres. No wallet is made or shown before that.",
    )
}

fn not_made(error: impl std::fmt::Display) -> StepError {
    StepError::environment(
        format!("no cold wallet could be made: {error}"),
        "See why this machine has no random source.",
    )
}

fn not_prepared(what: &str) -> StepError {
    StepError::permanent(
        format!("no {what} is kept for this gatewayd, although the step retrieveApiKey keeps one"),
        "Terminate the server and build it anew.",
    )
}

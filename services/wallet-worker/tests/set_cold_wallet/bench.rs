//! One gatewayd in state `wallet`, leased, and the step taken by hand.

use std::time::Duration;

use gatewayzen_bootstrap::settings;
use gatewayzen_core::repository::{Lease, Outcome, Repository, Verdict};
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::Wallet;
use gatewayzen_core::{Facts, Next, State, Step, StepError};
use gatewayzen_worker::{StepContext, Steps as _};
use integration_tests::harness::Database;
use tempfile::TempDir;
use wallet_worker::copies::Copies;
use wallet_worker::step::WalletSteps;

use crate::simulated::{KEY, SimulatedGatewayd};

const LONG: Duration = Duration::from_secs(600);

/// One gatewayd in state `wallet`, leased.
pub(crate) struct Bench {
    pub(crate) database: Database,
    /// As the wallet-worker logs in.
    pub(crate) repository: Repository,
    pub(crate) gatewayd: SimulatedGatewayd,
    pub(crate) ring: String,
    pub(crate) backup_keys: String,
    pub(crate) copies: TempDir,
    pub(crate) lease: Lease,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let gatewayd = SimulatedGatewayd::start().await;
        let facts = Facts {
            private_address: Some("127.0.0.1".into()),
            tls_fingerprint: Some(gatewayd.fingerprint.to_string()),
            ..Facts::default()
        };
        let bench = Self::with(gatewayd, facts).await;
        bench.keep_key().await;
        bench
    }

    pub(crate) async fn with(gatewayd: SimulatedGatewayd, facts: Facts) -> Self {
        let database = Database::new().await;
        let repository = database.repository("gatewayzen_wallet_worker");
        let lease = lease_in_wallet(&database, &repository, facts).await;
        let line = |id| {
            let line = KeyRing::generate_line(id).unwrap();
            line.expose_str().unwrap().to_owned()
        };
        Self {
            database,
            repository,
            gatewayd,
            ring: line("test"),
            backup_keys: line("backup"),
            copies: tempfile::tempdir().unwrap(),
            lease,
        }
    }

    async fn keep_key(&self) {
        let sealed = self
            .keys()
            .seal(Place::api_key(&self.lease.id.to_string()), KEY.as_bytes())
            .unwrap();
        // The ssh-worker's: this one may only read it.
        self.database
            .repository("gatewayzen_ssh_worker")
            .keep_api_key(&self.lease, &sealed)
            .await
            .unwrap()
            .or_overtaken()
            .unwrap();
    }

    pub(crate) fn keys(&self) -> KeyRing {
        KeyRing::parse(&self.ring).unwrap()
    }

    pub(crate) async fn take(&self) -> Result<String, StepError> {
        let mut settings = settings::load(None).unwrap();
        settings.gatewayd.https_port = self.gatewayd.port;
        let repository = self.repository.clone();
        let context = StepContext {
            step: Step::SetColdWallet,
            gatewayd: repository.gatewayd(self.lease.id).await.unwrap().unwrap(),
            lease: self.lease.clone(),
            repository,
        };
        let copies = Copies::new(
            self.copies.path().to_str().unwrap(),
            KeyRing::parse(&self.backup_keys).unwrap(),
            None,
        );
        match WalletSteps::new(&settings, self.keys(), self.keys(), Some(copies))
            .take(&context)
            .await?
        {
            Next::Advance { facts, done } => {
                let address = facts.ripple_address.unwrap();
                assert!(done.contains(&address), "{done}");
                Ok(address)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The recorded copies: address and place.
    pub(crate) async fn recorded(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT address, place FROM wallet_backups ORDER BY id")
            .fetch_all(&self.database.admin)
            .await
            .unwrap()
    }

    /// The address of the stored wallet, whose seed is seen to open.
    pub(crate) async fn stored(&self) -> Option<String> {
        let stored = self.repository.wallet(self.lease.id).await.unwrap()?;
        let row = format!("{}/{}", self.lease.id, stored.version);
        let seed = self
            .keys()
            .open(Place::wallet_seed(&row), &stored.sealed)
            .unwrap();
        let wallet = Wallet::from_seed(seed.expose_str().unwrap()).unwrap();
        assert_eq!(wallet.address(), stored.address);
        Some(stored.address)
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.gatewayd.state.lock().unwrap().calls.clone()
    }
}

/// A new gatewayd, brought to state `wallet` with these facts.
async fn lease_in_wallet(database: &Database, repository: &Repository, facts: Facts) -> Lease {
    let made = "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id";
    let id: i64 = sqlx::query_scalar(made).fetch_one(&database.app).await.unwrap();
    let take = async |state: State| match repository
        .take_lease(id, state, None, "test", LONG, 10)
        .await
        .unwrap()
    {
        Verdict::Taken(lease) => lease,
        other => panic!("no lease in {state}: {other:?}"),
    };
    for state in [State::Instance, State::Key, State::Start] {
        let to = state.after_step().unwrap();
        let outcome = Outcome::Advance {
            to,
            facts: facts.clone(),
            why: "test".into(),
        };
        let finished = repository
            .finish_step(&take(state).await, &outcome, LONG)
            .await
            .unwrap();
        finished.check.or_overtaken().unwrap();
    }
    take(State::Wallet).await
}

pub(crate) fn permanent(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} {}", problem.sentence, problem.unblock),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn environment(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Environment(problem)) => problem.sentence,
        other => panic!("{other:?}"),
    }
}

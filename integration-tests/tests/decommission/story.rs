//! One gatewayd whose steps are taken by hand, and the sentences of a refusal.

use std::time::Duration;

use gatewayzen_core::repository::{Lease, LeaseCheck, Outcome, Repository, Verdict};
use gatewayzen_core::{Facts, State};
use integration_tests::harness::Database;
use sqlx::PgPool;
use uuid::Uuid;

pub(crate) const WALLET: &str = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh";
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// What an external application hears of a gatewayd whose wallet is kept nowhere else.
pub(crate) const NO_WALLET_BACKUP: &str = "gatewayd \"acme\" cannot be terminated: the key of its cold wallet \
    rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh is in no verified backup, and with its host end its hot wallet and gatewayd's own database. \
    What to do: `gatewayzen secrets export FILE --reason TEXT`, then `gatewayzen secrets verify-backup FILE` (with secrets.wallet_copies \
    configured, each new wallet is backed up as it is made); then terminate it";
pub(crate) const OVERRIDE: &str = "An operator may end it all the same, on record: `gatewayzen terminate acme --without-backup --reason ...`.";

/// A database with one gatewayd, `acme`, in `instance`; its steps are taken by hand.
pub(crate) struct Story {
    pub(crate) database: Database,
    pub(crate) operator: Repository,
    id: i64,
}

impl Story {
    pub(crate) async fn new() -> Story {
        let database = Database::new().await;
        let made = "INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id";
        let id = sqlx::query_scalar(made).fetch_one(&database.app).await.unwrap();
        let operator = database.repository("gatewayzen_operator");
        Story {
            database,
            operator,
            id,
        }
    }

    /// A gatewayd that is `live`, with a wallet that is kept nowhere else, under this policy.
    pub(crate) async fn live(wallet_backup: bool, host_backup: bool) -> Story {
        let story = Story::new().await;
        story.policy(wallet_backup, host_backup).await;
        for state in [State::Instance, State::Key, State::Start, State::Wallet] {
            story.step(state).await;
        }
        story
    }

    pub(crate) async fn policy(&self, wallet_backup: bool, host_backup: bool) {
        let set = self
            .operator
            .set_decommission_policy(Some(wallet_backup), Some(host_backup), "a test", Some("Ann"))
            .await;
        set.unwrap().unwrap();
    }

    pub(crate) async fn lease(&self, state: State) -> Lease {
        let service = self.database.repository("gatewayzen_service");
        match service
            .take_lease(self.id, state, None, "test", LONG, 99)
            .await
            .unwrap()
        {
            Verdict::Taken(lease) => lease,
            other => panic!("no lease in {state}: {other:?}"),
        }
    }

    async fn finish(&self, lease: &Lease, to: State) {
        let outcome = Outcome::Advance {
            to,
            facts: Facts::default(),
            why: "test".into(),
        };
        let service = self.database.repository("gatewayzen_service");
        let finished = service.finish_step(lease, &outcome, LONG).await.unwrap();
        assert_eq!(finished.check, LeaseCheck::Held);
    }

    /// Takes the step of a state, with what it leaves behind; that of `stop` without a backup.
    pub(crate) async fn step(&self, state: State) {
        let lease = self.lease(state).await;
        match state {
            State::Instance => self.launched(&lease).await,
            State::Wallet => {
                let worker = self.database.repository("gatewayzen_wallet_worker");
                worker
                    .keep_wallet(&lease, WALLET, "secp256k1", b"sealed")
                    .await
                    .unwrap();
            }
            State::Terminate => {
                let worker = self.database.repository("gatewayzen_instance_worker");
                let attempt = worker.launch_attempt(self.id).await.unwrap().unwrap();
                worker
                    .end_launch_attempt(&lease, attempt.id, "it ended")
                    .await
                    .unwrap();
            }
            _ => {}
        }
        self.finish(&lease, state.after_step().unwrap()).await;
    }

    async fn launched(&self, lease: &Lease) {
        let worker = self.database.repository("gatewayzen_instance_worker");
        let (attempt, token) = (Uuid::new_v4(), Uuid::new_v4().to_string());
        let nothing = serde_json::json!({});
        worker
            .open_launch_attempt(lease, attempt, &token, &nothing, b"", "key", LONG, 9)
            .await
            .unwrap();
        let instance = format!("i-{}", &token[..8]);
        worker
            .resolve_launch_attempt(lease, attempt, &instance)
            .await
            .unwrap();
    }

    /// `stop`, whose step backs the host up.
    pub(crate) async fn stop_with_backup(&self) {
        self.write("stop").await.unwrap();
        let lease = self.lease(State::Stop).await;
        let worker = self.database.repository("gatewayzen_ssh_worker");
        let kept = worker.record_host_backup(&lease, Some("s3://backups/acme")).await;
        assert_eq!(kept.unwrap(), LeaseCheck::Held);
        self.finish(&lease, State::Stopped).await;
    }

    /// Writes a state as the application; the refusal's sentence where there is one.
    pub(crate) async fn write(&self, state: &str) -> Result<(), String> {
        write_as(&self.database.app, state)
            .await
            .map_err(|(text, _)| text)
    }

    pub(crate) async fn refused(&self) -> String {
        self.write("terminate").await.unwrap_err()
    }

    pub(crate) async fn state(&self) -> String {
        self.database.text("SELECT state FROM gatewayds").await
    }
}

/// The sentence and the hint.
pub(crate) async fn write_as(login: &PgPool, state: &str) -> Result<(), (String, String)> {
    match sqlx::query("UPDATE gatewayds SET state = $1")
        .bind(state)
        .execute(login)
        .await
    {
        Ok(_) => Ok(()),
        Err(sqlx::Error::Database(error)) => {
            let hint = error
                .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                .and_then(|error| error.hint());
            Err((error.message().to_owned(), hint.unwrap_or_default().to_owned()))
        }
        Err(other) => panic!("{other}"),
    }
}

pub(crate) fn sees(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{text}: does not say {word}");
    }
}

//! The whole step, on a real Postgres and a simulated gatewayd.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[allow(dead_code, reason = "shared with another test, which uses the rest")]
mod simulated;

use std::time::Duration;

use gatewayzen_bootstrap::settings;
use gatewayzen_core::repository::{Lease, Outcome, Repository, Verdict};
use gatewayzen_core::seal::{KeyRing, Place};
use gatewayzen_core::wallet::{KeyType, Wallet};
use gatewayzen_core::{Facts, Next, State, Step, StepError};
use gatewayzen_worker::{StepContext, Steps as _};
use integration_tests::harness::Database;
use simulated::{Fault, KEY, SimulatedGatewayd};
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use tempfile::TempDir;
use wallet_worker::copies::Copies;
use wallet_worker::step::WalletSteps;

const LONG: Duration = Duration::from_secs(600);
const GET: &str = "GET /v1/config/wallets/cold";

/// One gatewayd in state `wallet`, leased.
struct Bench {
    database: Database,
    /// As the wallet-worker logs in.
    repository: Repository,
    gatewayd: SimulatedGatewayd,
    ring: String,
    backup_keys: String,
    copies: TempDir,
    lease: Lease,
}

impl Bench {
    async fn new() -> Self {
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

    async fn with(gatewayd: SimulatedGatewayd, facts: Facts) -> Self {
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

    fn keys(&self) -> KeyRing {
        KeyRing::parse(&self.ring).unwrap()
    }

    async fn take(&self) -> Result<String, StepError> {
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
    async fn recorded(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT address, place FROM wallet_backups ORDER BY id")
            .fetch_all(&self.database.admin)
            .await
            .unwrap()
    }

    /// The address of the stored wallet, whose seed is seen to open.
    async fn stored(&self) -> Option<String> {
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

    fn calls(&self) -> Vec<String> {
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

fn permanent(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} {}", problem.sentence, problem.unblock),
        other => panic!("{other:?}"),
    }
}

fn environment(result: Result<String, StepError>) -> String {
    match result {
        Err(StepError::Environment(problem)) => problem.sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_wallet_for_one_gatewayd_for_ever() {
    let bench = Bench::new().await;
    let address = bench.take().await.unwrap();
    assert_eq!(bench.stored().await, Some(address.clone()));
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(address.clone()));
    assert_eq!(bench.take().await.unwrap(), address);
    // The same row on another machine, which has none yet.
    *bench.gatewayd.state.lock().unwrap() = simulated::State::default();
    assert_eq!(bench.take().await.unwrap(), address);
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(address));
}

#[tokio::test]
async fn a_wallet_is_stored_before_it_is_shown_to_anybody() {
    let bench = Bench::new().await;
    bench.gatewayd.fault(GET, Fault::Close);
    let error = bench.take().await.unwrap_err();
    assert!(matches!(error, StepError::Transient(_)), "{error:?}");
    let stored = bench.stored().await.unwrap();
    assert_eq!(bench.calls(), [GET], "nobody has heard the address");
    assert_eq!(bench.take().await.unwrap(), stored);
}

#[tokio::test]
async fn a_worker_that_was_overtaken_makes_no_wallet_and_calls_nobody() {
    let bench = Bench::new().await;
    let move_away = "UPDATE gatewayds SET state = 'terminate'";
    sqlx::query(move_away).execute(&bench.database.app).await.unwrap();
    let error = bench.take().await.unwrap_err();
    assert!(matches!(error, StepError::Overtaken), "{error:?}");
    assert_eq!((bench.stored().await, bench.calls()), (None, vec![]));
}

#[tokio::test]
async fn two_racers_end_with_one_wallet() {
    let bench = Bench::new().await;
    let (one, other) = tokio::join!(bench.take(), bench.take());
    let stored = bench.stored().await.unwrap();
    assert_eq!((one.unwrap(), other.unwrap()), (stored.clone(), stored.clone()));
    assert_eq!(bench.gatewayd.state.lock().unwrap().saved, Some(stored));
}

#[tokio::test]
async fn the_server_hears_nothing_before_a_copy_is_kept_elsewhere() {
    let bench = Bench::new().await;
    let folder = bench.copies.path();
    let elsewhere = folder.with_extension("unmounted");
    std::fs::rename(folder, &elsewhere).unwrap();
    let told = environment(bench.take().await);
    assert!(told.contains("no copy of a cold wallet can be kept"), "{told}");
    // The wallet is kept in Postgres, and nobody has heard of it.
    let made = bench.stored().await.unwrap();
    assert_eq!((bench.calls(), bench.recorded().await), (vec![], vec![]));

    std::fs::rename(&elsewhere, folder).unwrap();
    assert_eq!(bench.take().await.unwrap(), made);
    let recorded = bench.recorded().await;
    let [(address, place)] = recorded.as_slice() else {
        panic!("{recorded:?}")
    };
    assert_eq!(*address, made);
    let file = std::fs::File::open(place).unwrap();
    let keys = KeyRing::parse(&bench.backup_keys).unwrap();
    let mut found = Vec::new();
    let fleet = bench.repository.fleet_id().await.unwrap();
    gatewayzen_core::backup::read(std::io::BufReader::new(file), &keys, Some(fleet), |opened| {
        found.push((opened.gatewayd, opened.wallet.address().to_owned()));
    })
    .unwrap();
    assert_eq!(found, [(bench.lease.id, made)]);

    // What is recorded is not made again, wherever it lies now.
    std::fs::remove_file(place).unwrap();
    bench.take().await.unwrap();
    assert_eq!(bench.recorded().await.len(), 1);
    assert_eq!(std::fs::read_dir(bench.copies.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_copy_whose_record_was_lost_in_a_crash_is_used_again() {
    let bench = Bench::new().await;
    bench.take().await.unwrap();
    let first = bench.recorded().await;
    for statement in [
        "ALTER TABLE wallet_backups DISABLE TRIGGER only_added_to",
        "DELETE FROM wallet_backups",
    ] {
        sqlx::query(statement)
            .execute(&bench.database.admin)
            .await
            .unwrap();
    }
    bench.take().await.unwrap();
    assert_eq!(bench.recorded().await, first);
    assert_eq!(std::fs::read_dir(bench.copies.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn no_wallet_is_made_where_a_commit_may_be_lost() {
    let mut bench = Bench::new().await;
    // A setting of this database only, which holds for new connections.
    let off = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$";
    sqlx::query(off).execute(&bench.database.admin).await.unwrap();
    bench.repository.close().await;
    bench.repository = bench.database.repository("gatewayzen_wallet_worker");
    let told = environment(bench.take().await);
    assert!(told.contains("synchronous_commit off"), "{told}");
    assert_eq!((bench.stored().await, bench.calls()), (None, vec![]));
}

#[tokio::test]
async fn a_new_wallet_is_on_disk_before_it_is_told_whatever_its_session_was_set_to() {
    let bench = Bench::new().await;
    let url = bench.database.url("gatewayzen_wallet_worker");
    let mut session = PgConnection::connect(&url).await.unwrap();
    let off = "SET synchronous_commit = off";
    sqlx::query(off).execute(&mut session).await.unwrap();
    // Neither the session's setting nor its transaction's own reaches the commit of a wallet.
    for (setting, kept) in [("SELECT 1", false), ("SET LOCAL synchronous_commit = off", true)] {
        let mut transaction = session.begin().await.unwrap();
        sqlx::query(setting).execute(&mut *transaction).await.unwrap();
        let verdict: String = sqlx::query_scalar(
            "SELECT keep_wallet($1, $2, $3, 'rrrrrrrrrrrrrrrrrrrrBZbvji', 'ed25519', '\\x00')",
        )
        .bind(bench.lease.id)
        .bind(bench.lease.token)
        .bind(bench.lease.generation)
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
        assert_eq!(verdict, "held");
        let at_commit: String = sqlx::query_scalar("SHOW synchronous_commit")
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(at_commit, "on", "after {setting}");
        if kept {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
    }
    let kept = bench.repository.wallet(bench.lease.id).await.unwrap().unwrap();
    assert_eq!(kept.address, "rrrrrrrrrrrrrrrrrrrrBZbvji");
}

#[tokio::test]
async fn a_missing_sealing_key_is_named_and_is_the_trouble_of_this_row_alone() {
    let mut bench = Bench::new().await;
    let address = bench.take().await.unwrap();
    let ring = bench.ring.clone();
    bench.ring = KeyRing::generate_line("another")
        .unwrap()
        .expose_str()
        .unwrap()
        .to_owned();
    let before = bench.calls().len();
    let told = match bench.take().await {
        Err(StepError::Transient(problem)) => problem.sentence,
        other => panic!("{other:?}"),
    };
    assert!(
        told.contains("cold wallet's seed")
            && told.contains("key \"test\"")
            && told.contains("it has: another"),
        "{told}"
    );
    assert_eq!(bench.calls().len(), before);
    // The new key first, the old one behind it: as in a rotation.
    bench.ring = format!("{}\n{ring}", bench.ring);
    assert_eq!(bench.take().await.unwrap(), address);
}

#[tokio::test]
async fn an_address_whose_seed_does_not_open_is_shown_to_nobody() {
    // Moved from another row; of another wallet; no seed at all.
    let (kept, other) = (
        Wallet::generate(KeyType::Ed25519).unwrap(),
        Wallet::generate(KeyType::Ed25519).unwrap(),
    );
    let cases = [
        (
            "7/1",
            kept.seed().expose(),
            "it was changed, moved from another row",
        ),
        ("", other.seed().expose(), other.address()),
        ("", b"nonsense", "is not a seed"),
    ];
    for (row, secret, expected) in cases {
        let bench = Bench::new().await;
        let own = format!("{}/1", bench.lease.id);
        let place = Place::wallet_seed(if row.is_empty() { &own } else { row });
        let sealed = bench.keys().seal(place, secret).unwrap();
        let repository = &bench.repository;
        repository
            .keep_wallet(&bench.lease, kept.address(), "ed25519", &sealed)
            .await
            .unwrap();
        let told = permanent(bench.take().await);
        assert!(told.contains(expected), "{told} should say {expected}");
        assert_eq!(bench.calls().len(), 0);
    }
}

#[tokio::test]
async fn what_the_steps_before_must_have_left_is_asked_for_by_name() {
    let fingerprint = SimulatedGatewayd::start().await.fingerprint.to_string();
    let there = || Some("127.0.0.1".to_owned());
    let cases = [
        (
            Facts {
                public_address: there(),
                ..Facts::default()
            },
            "no private address",
        ),
        (
            Facts {
                private_address: there(),
                ..Facts::default()
            },
            "no certificate is kept",
        ),
        (
            Facts {
                private_address: there(),
                tls_fingerprint: Some("AB:CD".into()),
                ..Facts::default()
            },
            "\"AB:CD\" is not a SHA-256 fingerprint",
        ),
        (
            Facts {
                private_address: there(),
                tls_fingerprint: Some(fingerprint),
                ..Facts::default()
            },
            "no API key is kept",
        ),
    ];
    for (facts, expected) in cases {
        let bench = Bench::with(SimulatedGatewayd::start().await, facts).await;
        let told = permanent(bench.take().await);
        assert!(told.contains(expected), "{told} should say {expected}");
    }
}

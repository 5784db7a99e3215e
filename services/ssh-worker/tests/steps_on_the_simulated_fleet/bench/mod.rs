//! One gatewayd of a database of the test's own, on one host of a simulated fleet.

mod database;
mod ec2;

use std::time::{Duration, Instant};

use gatewayzen_bootstrap::settings::{self, ConnectVia, Settings};
use gatewayzen_core::repository::{Lease, LeaseCheck, Opening, Outcome, Repository, Verdict};
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Facts, Gatewayd, Next, State, StepError};
use gatewayzen_worker::{StepContext, Steps as _};
use integration_tests::simulated_fleet::{Config, Fault, FaultKind, HostView, SimulatedFleet, Times};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use ssh_worker::steps::SshSteps;
use uuid::Uuid;

use database::Database;

const LONG: Duration = Duration::from_secs(600);
pub const API_KEYS: &str = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

pub struct Bench {
    pub fleet: SimulatedFleet,
    pub settings: Settings,
    pub id: i64,
    pub address: String,
    /// As the ssh-worker logs in.
    pub repository: Repository,
    /// As the superuser: what other services do.
    pub admin: Repository,
    database: Database,
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

fn pem(key: &PrivateKey) -> String {
    key.to_openssh(LineEnding::LF).unwrap().to_string()
}

impl Bench {
    /// A row in state `key`, whose host boots.
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(times: impl FnOnce(&mut Times)) -> Self {
        let mut config = Config {
            fleet_public_key: key(1).public_key().to_openssh().unwrap(),
            ..Config::default()
        };
        config.times.boot_ms = 20;
        config.times.ssh_ms = 100;
        times(&mut config.times);
        let (ssh_port, api_port) = (config.ssh_port, config.api_port);
        let fleet = SimulatedFleet::start(config).await.unwrap();
        let address = ec2::launch(&fleet.endpoint(), &pem(&key(2))).await;

        let database = Database::new().await;
        let (repository, admin) = (database.repository.clone(), database.admin.clone());
        let id = database
            .insert("INSERT INTO gatewayds (name, state) VALUES ('acme', 'instance') RETURNING id")
            .await;
        let mut settings = settings::load(None).unwrap();
        settings.hosts.connect_via = ConnectVia::Private;
        (settings.ssh.port, settings.gatewayd.https_port) = (ssh_port, api_port);
        let bench = Self {
            fleet,
            settings,
            id,
            address: address.clone(),
            repository,
            admin,
            database,
        };
        let lease = bench.lease(State::Instance).await;
        let host_key = key(2).public_key().to_openssh().unwrap();
        let attempt = Uuid::new_v4();
        let opened = bench
            .admin
            .open_launch_attempt(
                &lease,
                attempt,
                "token",
                &serde_json::json!({}),
                &[],
                &host_key,
                LONG,
                100,
            )
            .await
            .unwrap();
        assert_eq!(opened, Opening::Checked(LeaseCheck::Held));
        let facts = Facts {
            private_address: Some(address),
            ..Facts::default()
        };
        bench.advance(&lease, State::Key, facts).await;
        bench
    }

    /// A row in this state, brought there by the steps before it.
    pub async fn in_state(state: State) -> Self {
        let bench = Self::new().await;
        while bench.row().await.state != state {
            if bench.row().await.state == State::Wallet {
                let lease = bench.lease(State::Wallet).await;
                bench.advance(&lease, State::Live, Facts::default()).await;
            } else if bench.row().await.state == State::Live {
                bench
                    .execute(&format!("UPDATE gatewayds SET state = '{state}'"))
                    .await;
            } else {
                bench.step().await.unwrap();
            }
        }
        bench
    }

    pub async fn row(&self) -> Gatewayd {
        self.repository.gatewayd(self.id).await.unwrap().unwrap()
    }

    /// Runs a statement as an operator who may do everything.
    pub async fn execute(&self, sql: &str) {
        self.database.execute(sql).await;
    }

    /// One text, as the superuser.
    pub async fn text(&self, sql: &'static str) -> String {
        self.database.text(sql).await
    }

    pub fn fault(&self, kind: FaultKind) {
        self.fleet.fault(Fault::new(kind));
    }

    pub fn host(&self) -> HostView {
        self.fleet.hosts().remove(0)
    }

    pub fn steps(&self, fleet_key: u8) -> SshSteps {
        let keys = KeyRing::parse(API_KEYS).unwrap();
        SshSteps::new(&self.settings, pem(&key(fleet_key)).as_bytes(), None, keys).unwrap()
    }

    /// Takes the row's step until it needs no waiting, and writes its end. Returns what was done.
    pub async fn step(&self) -> Result<String, StepError> {
        self.step_with(1).await
    }

    pub async fn step_with(&self, fleet_key: u8) -> Result<String, StepError> {
        let begun = Instant::now();
        loop {
            match self.once(fleet_key).await? {
                Next::Advance { done, .. } => return Ok(done),
                Next::WaitUntil { after, waiting_for } | Next::AwaitTurn { after, waiting_for } => {
                    assert!(
                        begun.elapsed() < Duration::from_secs(60),
                        "it still waits for {waiting_for}"
                    );
                    // As the queue keeps the job back.
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    /// Takes the row's step once.
    pub async fn once(&self, fleet_key: u8) -> Result<Next, StepError> {
        let row = self.row().await;
        let (state, step) = (row.state, row.state.step().unwrap());
        let lease = self.lease(state).await;
        let gatewayd = self.row().await;
        let context = StepContext {
            step,
            gatewayd,
            lease,
            repository: self.repository.clone(),
        };
        let result = self.steps(fleet_key).take(&context).await;
        match &result {
            Ok(Next::Advance { facts, .. }) => {
                self.advance(&context.lease, state.after_step().unwrap(), facts.clone())
                    .await;
            }
            _ => self.finish(&context.lease, &Outcome::Release).await,
        }
        result
    }

    pub async fn lease(&self, state: State) -> Lease {
        match self
            .repository
            .take_lease(self.id, state, None, "test", LONG, 1000)
            .await
            .unwrap()
        {
            Verdict::Taken(lease) => lease,
            other => panic!("no lease in {state}: {other:?}"),
        }
    }

    pub async fn advance(&self, lease: &Lease, to: State, facts: Facts) {
        self.finish(
            lease,
            &Outcome::Advance {
                to,
                facts,
                why: "test".into(),
            },
        )
        .await;
    }

    async fn finish(&self, lease: &Lease, outcome: &Outcome) {
        let finished = self.repository.finish_step(lease, outcome, LONG).await.unwrap();
        assert_eq!(finished.check, LeaseCheck::Held);
    }
}

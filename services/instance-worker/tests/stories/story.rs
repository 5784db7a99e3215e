//! A database, a simulated fleet, and the steps taken by hand: lease, step, outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::{Credentials, Region};
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use gatewayzen_bootstrap::Settings;
use gatewayzen_core::repository::{Outcome, Verdict};
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Gatewayd, Next, Repository, State, StepError};
use gatewayzen_worker::{StepContext, Steps as _};
use instance_worker::client;
use instance_worker::steps::InstanceSteps;
use integration_tests::harness::Database;
use integration_tests::simulated_fleet::{Config, DEFAULT_IMAGE, Entry, Event, SimulatedFleet, Times};

const LONG: Duration = Duration::from_secs(600);
/// Only a defect takes so many steps.
const STEPS: usize = 500;

pub struct Story {
    database: Database,
    pub repository: Repository,
    pub sim: SimulatedFleet,
    client: Client,
    settings: Settings,
    steps: InstanceSteps,
    ring: String,
}

impl Story {
    pub async fn new() -> Story {
        let database = Database::new().await;
        let key = instance_worker::host_key::HostKey::generate().unwrap();
        // Long enough to be seen on the way out.
        let times = Times {
            terminate_ms: 400,
            ..Times::default()
        };
        let config = Config {
            fleet_public_key: key.public,
            times,
            ..Config::default()
        };
        let sim = SimulatedFleet::start(config).await.unwrap();
        let mut settings = gatewayzen_bootstrap::settings::load(None).unwrap();
        settings.ec2.ami = DEFAULT_IMAGE.into();
        settings.ec2.poll = Duration::from_millis(50);
        let ring = KeyRing::generate_line("test")
            .unwrap()
            .expose_str()
            .unwrap()
            .to_owned();
        let client = ec2(&sim.endpoint(), "simulated").await;
        let steps = InstanceSteps::new(&settings, client.clone(), KeyRing::parse(&ring).unwrap());
        let repository = database.repository("gatewayzen_instance_worker");
        Story {
            database,
            repository,
            sim,
            client,
            settings,
            steps,
            ring,
        }
    }

    /// Another worker process, with other settings.
    pub fn change(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.steps = InstanceSteps::new(
            &self.settings,
            self.client.clone(),
            KeyRing::parse(&self.ring).unwrap(),
        );
    }

    /// Another worker process, with other credentials; none where the name is empty.
    pub async fn log_in(&mut self, access_key: &str) {
        self.client = ec2(&self.sim.endpoint(), access_key).await;
        self.change(|_| ());
    }

    /// Another worker process, with EC2 at another place.
    pub async fn dial(&mut self, endpoint: &str) {
        self.client = ec2(endpoint, "simulated").await;
        self.change(|_| ());
    }

    /// A new row in state `instance`.
    pub async fn launch(&self, name: &str) -> i64 {
        sqlx::query_scalar("INSERT INTO gatewayds (name, state) VALUES ($1, 'instance') RETURNING id")
            .bind(name)
            .fetch_one(&self.database.app)
            .await
            .unwrap()
    }

    /// A new row in state `key`, with its machine.
    pub async fn launched_row(&self, name: &str) -> i64 {
        let id = self.launch(name).await;
        self.to_its_end(id, State::Instance).await;
        id
    }

    /// A machine that GatewayZen did not launch, with a row's tags.
    pub async fn stray(&self, id: i64, attempt: &str) {
        let fleet = self.repository.fleet_id().await.unwrap().to_string();
        let tags = [
            ("gatewayzen:fleet", fleet.as_str()),
            ("gatewayzen:gatewayd", &id.to_string()),
            ("gatewayzen:attempt", attempt),
        ];
        let tags = tags
            .map(|(key, value)| Tag::builder().key(key).value(value).build())
            .to_vec();
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::Instance)
            .set_tags(Some(tags))
            .build();
        let call = self
            .client
            .run_instances()
            .image_id(DEFAULT_IMAGE)
            .min_count(1)
            .max_count(1);
        call.tag_specifications(tags).send().await.unwrap();
    }

    pub async fn write(&self, id: i64, state: State) {
        let update = sqlx::query("UPDATE gatewayds SET state = $2 WHERE id = $1")
            .bind(id)
            .bind(state.name());
        update.execute(&self.database.app).await.unwrap();
    }

    pub async fn sql(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.database.admin).await.unwrap();
    }

    pub async fn row(&self, id: i64) -> Gatewayd {
        self.repository.gatewayd(id).await.unwrap().unwrap()
    }

    /// A lease and what a step is given.
    pub async fn context(&self, id: i64, state: State) -> StepContext {
        let lease = match self
            .repository
            .take_lease(id, state, None, "test", LONG, 1000)
            .await
            .unwrap()
        {
            Verdict::Taken(lease) => lease,
            other => panic!("no lease of {id} in {state}: {other:?}"),
        };
        let gatewayd = self.row(id).await;
        StepContext {
            step: state.step().unwrap(),
            gatewayd,
            lease,
            repository: self.repository.clone(),
        }
    }

    pub async fn take(&self, context: &StepContext) -> Result<Next, StepError> {
        self.steps.take(context).await
    }

    /// One step, and its row given back.
    pub async fn step(&self, id: i64, state: State) -> Result<Next, StepError> {
        self.step_for(id, state, LONG).await.unwrap()
    }

    /// One step that is killed after a while: `None`.
    pub async fn step_for(&self, id: i64, state: State, limit: Duration) -> Option<Result<Next, StepError>> {
        let context = self.context(id, state).await;
        let result = tokio::time::timeout(limit, self.take(&context)).await.ok();
        let outcome = match &result {
            Some(Ok(Next::Advance { facts, done })) => Outcome::Advance {
                to: state.after_step().unwrap(),
                facts: facts.clone(),
                why: done.clone(),
            },
            Some(Ok(Next::WaitUntil { after, .. })) => {
                // As the queue keeps the job back.
                tokio::time::sleep((*after).min(self.settings.ec2.poll)).await;
                Outcome::Release
            }
            _ => Outcome::Release,
        };
        self.repository
            .finish_step(&context.lease, &outcome, LONG)
            .await
            .unwrap();
        result
    }

    /// Steps until a result is the one that is meant.
    pub async fn until(
        &self,
        id: i64,
        state: State,
        meant: impl Fn(&Result<Next, StepError>) -> bool,
    ) -> Result<Next, StepError> {
        for _ in 0..STEPS {
            let result = self.step(id, state).await;
            if meant(&result) {
                return result;
            }
            assert!(matches!(result, Ok(Next::WaitUntil { .. })), "{result:?}");
        }
        panic!("{STEPS} steps were not enough")
    }

    /// Steps until the state is left.
    pub async fn to_its_end(&self, id: i64, state: State) -> Next {
        self.until(id, state, |result| matches!(result, Ok(Next::Advance { .. })))
            .await
            .unwrap()
    }

    /// Machines that EC2 ever made.
    pub fn launched(&self) -> usize {
        launches(&self.sim.ledger().entries()).len()
    }

    /// Machines that are not terminated.
    pub fn alive(&self) -> usize {
        self.sim
            .hosts()
            .iter()
            .filter(|host| host.state != "terminated")
            .count()
    }
}

/// The tags of each machine that EC2 made.
pub fn launches(entries: &[Entry]) -> Vec<&BTreeMap<String, String>> {
    let tags = |entry: &'_ Entry| matches!(entry.event, Event::Launched { .. });
    let launched = entries.iter().filter(|entry| tags(entry));
    launched
        .filter_map(|entry| match &entry.event {
            Event::Launched { tags, .. } => Some(tags),
            _ => None,
        })
        .collect()
}

pub fn transient(result: Result<Next, StepError>) -> String {
    match result {
        Err(StepError::Transient(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not transient: {other:?}"),
    }
}

pub fn permanent(result: Result<Next, StepError>) -> String {
    match result {
        Err(StepError::Permanent(problem)) => format!("{} | {}", problem.sentence, problem.unblock),
        other => panic!("not permanent: {other:?}"),
    }
}

pub fn waits(result: Result<Next, StepError>) -> String {
    match result {
        Ok(Next::WaitUntil { waiting_for, .. }) => waiting_for,
        other => panic!("does not wait: {other:?}"),
    }
}

async fn ec2(endpoint: &str, access_key: &str) -> Client {
    let loader = client::loader()
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint);
    let loader = if access_key.is_empty() {
        loader.no_credentials()
    } else {
        loader.credentials_provider(Credentials::new(access_key, "secret", None, None, "test"))
    };
    Client::new(&loader.load().await)
}

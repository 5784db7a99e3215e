//! The two steps of this worker, and what they need to know.

use std::time::{Duration, Instant};

use aws_sdk_ec2::Client;
use gatewayzen_bootstrap::settings::{self, ConnectVia, Settings};
use gatewayzen_core::repository::Lease;
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Facts, Gatewayd, Next, Repository, Step, StepError};
use gatewayzen_worker::{StepContext, Steps};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::describe::Describer;
use crate::image::Images;

/// The instance-worker's steps.
#[derive(Debug)]
pub struct InstanceSteps {
    pub(crate) client: Client,
    pub(crate) describer: Describer,
    pub(crate) images: Images,
    pub(crate) settings: settings::Ec2,
    pub(crate) connect_via: ConnectVia,
    pub(crate) keys: KeyRing,
    fleet: OnceCell<Uuid>,
}

impl InstanceSteps {
    /// The steps with their settings, the EC2 client, and the keys that seal secrets.
    pub fn new(settings: &Settings, client: Client, keys: KeyRing) -> Self {
        Self {
            describer: Describer::new(client.clone(), settings.ec2.poll),
            images: Images::new(client.clone()),
            client,
            settings: settings.ec2.clone(),
            connect_via: settings.hosts.connect_via,
            keys,
            fleet: OnceCell::new(),
        }
    }

    /// The fleet's identity, which never changes.
    pub(crate) async fn fleet(&self, repository: &Repository) -> Result<Uuid, StepError> {
        Ok(*self.fleet.get_or_try_init(|| repository.fleet_id()).await?)
    }

    /// "Not yet": to be looked at again a little before EC2 may be asked again, so that all rows share that call.
    pub(crate) fn not_yet(&self, waiting_for: impl Into<String>) -> Next {
        Next::WaitUntil {
            after: self.settings.poll.mul_f64(0.9),
            waiting_for: waiting_for.into(),
        }
    }
}

impl InstanceSteps {
    /// As many launches are under way as may be. Whoever waits looks rarely and at times of his own, since many may wait.
    pub(crate) fn await_turn(&self) -> Next {
        Next::AwaitTurn {
            after: self.settings.poll.mul_f64(5.0 + 5.0 * fastrand::f64()),
            waiting_for: format!(
                "one of the {} launches under way to end, which is as many as ec2.launches_at_once allows at a time",
                self.settings.launches_at_once
            ),
        }
    }
}

impl Steps for InstanceSteps {
    fn all(&self) -> &'static [Step] {
        &[Step::InitializeEc2Instance, Step::TerminateEc2Instance]
    }

    async fn take(&self, context: &StepContext) -> Result<Next, StepError> {
        let turn = Turn {
            row: &context.gatewayd,
            lease: &context.lease,
            repository: &context.repository,
            begun: Instant::now(),
            begun_at: OffsetDateTime::now_utc(),
        };
        match context.step {
            Step::InitializeEc2Instance => self.initialize(&turn).await,
            Step::TerminateEc2Instance => self.terminate(&turn).await,
            other => Err(StepError::permanent(
                format!("the instance-worker does not take the step {other}"),
                "Give the queue to the worker that takes it.",
            )),
        }
    }
}

/// One step's right to act on one row, and its clock.
pub(crate) struct Turn<'a> {
    pub(crate) row: &'a Gatewayd,
    pub(crate) lease: &'a Lease,
    pub(crate) repository: &'a Repository,
    begun: Instant,
    begun_at: OffsetDateTime,
}

impl Turn<'_> {
    /// Sees that this worker still has the row.
    pub(crate) async fn still_mine(&self) -> Result<(), StepError> {
        self.repository
            .record_facts(self.lease, &Facts::default())
            .await?
            .or_overtaken()
    }

    /// Postgres's clock, by which all times of an attempt are kept. Guards against the machine that was suspended
    /// in mid-step, whose monotonic clock stood still meanwhile.
    pub(crate) fn now(&self) -> OffsetDateTime {
        let by_the_wall = OffsetDateTime::now_utc() - self.begun_at;
        let elapsed = self
            .begun
            .elapsed()
            .max(by_the_wall.try_into().unwrap_or_default());
        self.row.read_at + elapsed
    }
}

/// A moment for operators: "2026-11-24 08:25:31 UTC".
pub(crate) fn stamp(moment: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    moment
        .to_offset(time::UtcOffset::UTC)
        .format(&format)
        .unwrap_or_else(|_| moment.to_string())
}

/// A time for operators, in whole seconds: "12 s".
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

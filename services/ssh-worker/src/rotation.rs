//! Rotations of the fleet's SSH key over all hosts. Any number of workers look for one to do; one at a time has it.
//!
//! A run works on a host under the lease of its row, like a step: so none of the two ever acts in the midst of the other,
//! and a worker that was frozen and wakes up late is refused by the host, which has heard a later lease. Many hosts are
//! worked on at once, each for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use gatewayzen_bootstrap::{Error, Service};
use gatewayzen_core::repository::{HostLease, KeyedHost, Lease, RunLease};
use gatewayzen_core::ssh_key::{Act, Fate, HostReport, Report};
use gatewayzen_core::{Repository, crash};
use gatewayzen_worker::keep_run;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::host::{Halt, Host, Leased};
use crate::identity::fingerprint;
use crate::logins;
use crate::session::FleetKey;
use crate::steps::SshSteps;

/// How often a worker looks for a run that was asked for.
const PERIOD: Duration = Duration::from_secs(1);
/// Hosts at the same time.
const AT_ONCE: usize = 20;
/// How long a step may go on before its host is left out, and how soon it is asked again.
const BUSY_FOR: Duration = Duration::from_secs(60);
const BUSY_AGAIN: Duration = Duration::from_millis(500);

const NO_NEXT_KEY: &str = "ssh.next_key_file is not set in this ssh-worker's configuration: name the file of the fleet's new \
                           private key there, on every ssh-worker, and restart them";

/// Does the runs that operators ask for.
pub struct Rotator {
    steps: Arc<SshSteps>,
    repository: Repository,
    lease: Duration,
    owner: String,
}

impl Rotator {
    /// A rotator beside the steps of this worker.
    ///
    /// # Errors
    /// The URL of Postgres cannot be read.
    pub fn new(service: &Service, steps: Arc<SshSteps>) -> Result<Rotator, Error> {
        Ok(Rotator {
            steps,
            repository: service.repository_beside()?,
            lease: service.settings.worker.lease,
            owner: service.identity(),
        })
    }

    /// Does every run that it gets hold of, for ever. May be dropped at any await point: what is left half done is begun
    /// again, here or elsewhere, when its lease is over.
    pub async fn run(self) {
        let mut down = false;
        loop {
            let asked = Instant::now();
            match self.repository.claim_ssh_key_run(&self.owner, self.lease).await {
                Ok(Some(run)) => {
                    // A trace of its own: it is of no walk.
                    let act = run.act.name();
                    let span = tracing::info_span!(parent: None, "ssh-key", otel.name = format!("ssh-key {act}"), run = run.id, act);
                    crash::within("ssh-key", self.take(&run, asked).instrument(span)).await;
                }
                Ok(None) => down = false,
                Err(error) => {
                    // One line for an outage, not one for a try.
                    if !down {
                        tracing::warn!(%error, "cannot look for rotations of the SSH key; trying again every second");
                    }
                    down = true;
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn take(&self, run: &RunLease, taken: Instant) {
        let done = tokio::select! {
            // Guards against the process that was frozen: when it wakes up, the lease's end is looked at before it goes on.
            biased;
            error = keep_run(self.lease, taken, || self.repository.renew_ssh_key_run(run, self.lease)) => {
                return tracing::warn!(run = run.id, error, "rotation given up");
            }
            done = self.over_all_hosts(run) => done,
        };
        match &done {
            Ok(report) => {
                let (hosts, done) = (report.hosts.len(), report.count(Fate::Done));
                tracing::info!(run = run.id, act = run.act.name(), hosts, done, "rotated");
            }
            Err(error) => tracing::warn!(run = run.id, error, "rotation failed"),
        }
        let ended = done.as_ref().map_err(String::as_str);
        if let Err(error) = self.repository.finish_ssh_key_run(run, ended).await {
            tracing::warn!(run = run.id, %error, "the end of a rotation could not be written: it is begun again");
        }
    }

    async fn over_all_hosts(&self, run: &RunLease) -> Result<Report, String> {
        let ssh = &self.steps.ssh;
        let new = ssh.public(FleetKey::Next).ok_or(NO_NEXT_KEY)?;
        let mut report = Report {
            old_key: ssh.fingerprint(),
            new_key: fingerprint(new),
            ..Report::default()
        };
        let refusal = self
            .repository
            .begin_ssh_key_run(run, &report.old_key, &report.new_key)
            .await
            .map_err(text)?;
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let hosts = self.repository.keyed_hosts().await.map_err(text)?;
        let visits = stream::iter(hosts).map(|host| self.visit(run, host));
        let visited: Vec<Option<HostReport>> = visits.buffer_unordered(AT_ONCE).collect().await;
        report.hosts = visited.into_iter().flatten().collect();
        report.hosts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(report)
    }

    /// One host, or nothing where there is none any more.
    async fn visit(&self, run: &RunLease, host: KeyedHost) -> Option<HostReport> {
        let (fate, why) = match self.leased(run, host.id).await {
            Ok(HostLease::NoMachine) => return None,
            Ok(HostLease::Held) => {
                let hold = host.hold.as_deref().unwrap_or("no reason is known");
                (Fate::Held, format!("it is on hold ({hold}), so it was let alone"))
            }
            Ok(HostLease::BeingBuilt) => (
                Fate::BeingBuilt,
                "it is being built: its step `key` lets the new key in; rotate again after it".to_owned(),
            ),
            Ok(HostLease::Busy) => (
                Fate::Busy,
                format!(
                    "a step had it in hand for longer than {} s; rotate again",
                    BUSY_FOR.as_secs()
                ),
            ),
            Ok(HostLease::Taken(lease)) => {
                let done = self.on_host(run.act, &lease).await;
                if let Err(error) = self.repository.release_from_ssh_key(&lease).await {
                    tracing::warn!(gatewayd.name = host.name, %error, "a row could not be given back: its lease ends by itself");
                }
                match done {
                    Ok(()) => (Fate::Done, String::new()),
                    Err(why) => (Fate::Failed, why),
                }
            }
            Err(error) => (Fate::Failed, error),
        };
        Some(HostReport {
            name: host.name,
            state: host.state,
            fate,
            why,
        })
    }

    async fn leased(&self, run: &RunLease, id: i64) -> Result<HostLease, String> {
        let until = Instant::now() + BUSY_FOR;
        loop {
            // The lease outlives the work, which is cut off before it.
            let length = self.at_most() + self.lease;
            match self.repository.lease_for_ssh_key(run, id, length).await {
                Ok(HostLease::Busy) if Instant::now() < until => {}
                Ok(lease) => return Ok(lease),
                Err(error) if error.is_locked() && Instant::now() < until => {}
                Err(error) => return Err(text(error)),
            }
            tokio::time::sleep(BUSY_AGAIN).await;
        }
    }

    async fn on_host(&self, act: Act, lease: &Lease) -> Result<(), String> {
        let row = self.repository.gatewayd(lease.id).await.map_err(text)?;
        let row = row.ok_or("the row is gone")?;
        let of = Leased {
            row: &row,
            lease,
            repository: &self.repository,
        };
        let work = async {
            let host = Host::reach(&self.steps, of, false).await?;
            match act {
                Act::Rotate => logins::bring_next_key(&host).await?,
                Act::Retire => logins::take_old_key_out(&host).await?,
            }
            host.session.close().await;
            Ok(())
        };
        match tokio::time::timeout(self.at_most(), work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Halt::Fail(error))) => Err(error.to_string()),
            Ok(Err(Halt::Wait { waiting_for, .. })) => {
                Err(format!("it waits for {waiting_for}; rotate again"))
            }
            Err(_) => Err(format!(
                "it took longer than {} s and was cut off",
                self.at_most().as_secs()
            )),
        }
    }

    /// What one host may take: four logins and three commands.
    fn at_most(&self) -> Duration {
        let gatewayd = &self.steps.gatewayd;
        let command = gatewayd.lock_timeout + gatewayd.command_timeout + Duration::from_secs(10);
        8 * self.steps.connect_timeout + 3 * command
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

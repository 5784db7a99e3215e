//! The sweep: EC2's machines beside the rows, both ways. Any number of workers look for one to do; one at a time has it.

mod gone;
mod orphans;

use std::time::Duration;

use aws_sdk_ec2::Client;
use gatewayzen_bootstrap::{Error, Service, settings, telemetry};
use gatewayzen_core::repository::SweepLease;
use gatewayzen_core::sweep::{Fate, Machine, Report};
use gatewayzen_core::{Repository, crash};
use gatewayzen_worker::keep_run;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::describe::{By, Describer, Seen};
use crate::observe::count_sweep;
use crate::steps::InstanceSteps;

/// How often a worker looks for a sweep that was asked for.
const PERIOD: Duration = Duration::from_secs(1);

/// Does the sweeps that operators and dispatchers ask for.
#[derive(Debug)]
pub struct Sweeper {
    client: Client,
    /// Its own: a look at a whole fleet must not hold up the steps' looks at single machines.
    describer: Describer,
    repository: Repository,
    queue: resque::Queue,
    settings: settings::Sweep,
    /// How long EC2 may not show a machine that there is.
    consistency_window: Duration,
    lease: Duration,
    owner: String,
}

impl Sweeper {
    /// A sweeper beside the steps of this worker.
    ///
    /// # Errors
    /// The URL of Postgres or Redis cannot be read.
    pub fn new(service: &Service, steps: &InstanceSteps) -> Result<Sweeper, Error> {
        Ok(Sweeper {
            client: steps.client.clone(),
            describer: Describer::new(steps.client.clone(), steps.settings.poll),
            queue: service.queue_beside()?,
            repository: service.repository_beside()?,
            settings: service.settings.sweep.clone(),
            consistency_window: service.settings.ec2.consistency_window,
            lease: service.settings.worker.lease,
            owner: service.identity(),
        })
    }

    /// Does every sweep that it gets hold of, for ever. May be dropped at any await point: what is left half done is
    /// begun again, here or elsewhere, when its lease is over.
    pub async fn run(self) {
        let mut down = false;
        loop {
            let asked = Instant::now();
            let claim = crash::around(
                "claim_sweep",
                self.repository.claim_sweep(&self.owner, self.lease),
            );
            match crash::within("sweep", claim).await {
                Ok(Some(lease)) => {
                    // A trace of its own: a sweep is of no walk.
                    let span = tracing::info_span!(
                        parent: None,
                        "sweep",
                        sweep = lease.id,
                        act = lease.act,
                        otel.status_code = Empty,
                        "error.type" = Empty,
                        "gatewayzen.sweep.machines" = Empty,
                        "gatewayzen.sweep.ended" = Empty,
                    );
                    crash::within("sweep", self.take(&lease, asked).instrument(span)).await;
                }
                Ok(None) => down = false,
                Err(error) => {
                    // One line for an outage, not one for a try.
                    if !down {
                        tracing::warn!(%error, "cannot look for sweeps; trying again every second");
                    }
                    down = true;
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn take(&self, lease: &SweepLease, taken: Instant) {
        let swept = tokio::select! {
            // Guards against the process that was frozen: when it wakes up, the lease's end is looked at before it goes on.
            biased;
            error = keep_run(self.lease, taken, || {
                crash::around("renew_sweep", self.repository.renew_sweep(lease, self.lease))
            }) => {
                telemetry::fail(&Span::current(), "lease_lost");
                return tracing::warn!(sweep = lease.id, error, "sweep given up");
            }
            swept = self.sweep(lease) => swept,
        };
        match &swept {
            Ok(report) => tell(lease, report),
            Err(error) => {
                telemetry::fail(&Span::current(), "failed");
                tracing::warn!(sweep = lease.id, error, "sweep failed");
            }
        }
        let ended = swept.as_ref().map_err(String::as_str);
        count_sweep(ended);
        if let Err(error) = self.repository.finish_sweep(lease, ended).await {
            tracing::warn!(sweep = lease.id, %error, "the end of a sweep could not be written: it is begun again");
        }
    }

    /// One sweep. The order matters: EC2 is asked first and the database after it, since a launch is stored before EC2
    /// hears of it: so a machine that EC2 shows and no stored launch explains is no race.
    async fn sweep(&self, lease: &SweepLease) -> Result<Report, String> {
        let fleet = self.repository.fleet_id().await.map_err(text)?;
        let seen = self
            .describer
            .ask(By::Fleet, &fleet.to_string())
            .await
            .map_err(|failure| failure.sentence())?;
        let living: Vec<Machine> = seen.iter().filter(|one| !one.is_ending()).map(machine).collect();
        let comparison = self
            .repository
            .compare_machines(lease, &living)
            .await
            .map_err(text)?;
        let mut report = Report {
            machines: living.len(),
            refusal: comparison.refusal.clone(),
            ..Report::default()
        };
        self.sort(lease, living, comparison, &mut report);
        let refused = report.refusal.is_some();
        self.end_orphans(lease, refused, &mut report).await;
        self.park_gone_rows(lease, refused, &seen, &mut report).await?;
        Ok(report)
    }
}

fn machine(seen: &Seen) -> Machine {
    Machine {
        instance_id: seen.id.clone(),
        state: seen.state.as_str().to_owned(),
        launched_at: seen.launched_at,
        gatewayd_id: seen.gatewayd.clone(),
        name: seen.name.clone(),
        attempt: seen.attempt.clone(),
        client_token: seen.client_token.clone(),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Adds to why a sweep did not act in full.
fn refuse(report: &mut Report, sentence: String) {
    report.refusal = Some(match report.refusal.take() {
        Some(before) => format!("{before}; {sentence}"),
        None => sentence,
    });
}

fn tell(lease: &SweepLease, report: &Report) {
    let (marked, ended, parked) = (
        report.count(Fate::Marked),
        report.count(Fate::Ended),
        report.count(Fate::Parked),
    );
    let (sweep, act, machines) = (lease.id, lease.act, report.machines);
    match &report.refusal {
        Some(refusal) if lease.act => {
            tracing::warn!(
                sweep,
                machines,
                marked,
                ended,
                parked,
                refusal,
                "swept, not in full"
            );
        }
        _ => tracing::info!(sweep, act, machines, marked, ended, parked, "swept"),
    }
}

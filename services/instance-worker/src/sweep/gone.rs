//! The other way of the sweep: rows whose machine is gone. Nothing is ended here; the row is parked and says why.

use std::collections::HashMap;
use std::time::Duration;

use gatewayzen_core::repository::{Bereft, Missed, SweepLease};
use gatewayzen_core::sweep::{Fate, GoneRow, Report};
use gatewayzen_core::{JobArgs, State, crash};
use tracing::Instrument as _;

use super::{Sweeper, refuse, text};
use crate::describe::{By, Seen};
use crate::steps::stamp;

/// Redis may be gone: how long an entry in `failed` may take.
const PUSH_LIMIT: Duration = Duration::from_secs(2);

const UNBLOCK: &str = "To build it anew with the same wallet, write the state `terminate` and, once it is terminated, \
                       `instance`.";

impl Sweeper {
    /// Parks rows whose machine EC2 shows as ended, and those whose machine it has not shown for long, in two sweeps.
    pub(super) async fn park_gone_rows(
        &self,
        lease: &SweepLease,
        refused: bool,
        seen: &[Seen],
        report: &mut Report,
    ) -> Result<(), String> {
        let living: Vec<&str> = seen
            .iter()
            .filter(|one| !one.is_ending())
            .map(|one| one.id.as_str())
            .collect();
        let rows = self
            .repository
            .rows_without_machine(lease, &living)
            .await
            .map_err(text)?;
        let mut absent = Vec::new();
        for (row, shown) in rows.iter().zip(self.look_for(&rows, seen).await?) {
            match shown {
                // Launched meanwhile, or its tags were taken off.
                Some(one) if !one.is_ending() => {}
                Some(one) => {
                    let state = one.state.as_str();
                    let reason = one.state_reason.as_deref().unwrap_or("it gives no reason");
                    let why = format!("EC2 says {state} ({reason})");
                    let fate = self.park(lease, refused, row, &why, None).await?;
                    report.gone.push(gone(row, why, fate));
                }
                None => absent.push(row),
            }
        }
        self.park_absent(lease, refused, &absent, report).await
    }

    /// Each row's machine as EC2 shows it, by its id where the fleet's tag did not bring it.
    async fn look_for(&self, rows: &[Bereft], seen: &[Seen]) -> Result<Vec<Option<Seen>>, String> {
        let seen: HashMap<&str, &Seen> = seen.iter().map(|one| (one.id.as_str(), one)).collect();
        // All at once: they share their calls.
        let asks: Vec<_> = rows
            .iter()
            .map(|row| {
                let (known, id) = (
                    seen.get(row.instance_id.as_str()).copied().cloned(),
                    row.instance_id.clone(),
                );
                let describer = self.describer.clone();
                let look = async move {
                    match known {
                        Some(known) => Ok(Some(known)),
                        None => Ok(describer.ask(By::Id, &id).await?.into_iter().next()),
                    }
                };
                tokio::spawn(look.in_current_span())
            })
            .collect();
        let mut shown = Vec::with_capacity(asks.len());
        for ask in asks {
            let answer: Result<_, crate::errors::Failure> = ask.await.map_err(text)?;
            shown.push(answer.map_err(|failure| failure.sentence())?);
        }
        Ok(shown)
    }

    async fn park_absent(
        &self,
        lease: &SweepLease,
        refused: bool,
        absent: &[&Bereft],
        report: &mut Report,
    ) -> Result<(), String> {
        let missed = self.repository.miss_machines(lease, absent).await.map_err(text)?;
        let missed: HashMap<&str, &Missed> =
            missed.iter().map(|one| (one.instance_id.as_str(), one)).collect();
        let long_missed = |row: &Bereft| {
            let one = missed.get(row.instance_id.as_str())?;
            let long = one.before && one.missed_for >= self.consistency_window.as_secs_f64();
            long.then_some(*one)
        };
        let due = absent.iter().filter(|row| long_missed(row).is_some()).count();
        // Guards against the wrong region or account, where no machine of the fleet is shown: that parks nobody.
        let over = !refused && due > report.most as usize;
        for row in absent {
            let (why, fate) = match long_missed(row) {
                None => ("EC2 does not show it".to_owned(), Fate::Marked),
                Some(one) => {
                    let why = format!(
                        "EC2 has not shown it since {}, in more than one sweep",
                        stamp(one.since)
                    );
                    let fate = if over {
                        Fate::OverTheCap
                    } else {
                        self.park(lease, refused, row, &why, Some(self.consistency_window))
                            .await?
                    };
                    (why, fate)
                }
            };
            let fate = if refused { Fate::Refused } else { fate };
            report.gone.push(gone(row, why, fate));
        }
        if over {
            let sentence = format!(
                "EC2 does not show the machines of {due} rows, which is more than one sweep believes ({most}), so it parks \
                 none of these. See that ec2.region and the AWS account are the fleet's; if they are really gone, `gatewayzen \
                 sweep --act --most {due}`",
                most = report.most
            );
            refuse(report, sentence);
        }
        Ok(())
    }

    async fn park(
        &self,
        lease: &SweepLease,
        refused: bool,
        row: &Bereft,
        why: &str,
        missed_for: Option<Duration>,
    ) -> Result<Fate, String> {
        if refused {
            return Ok(Fate::Refused);
        }
        if !lease.act {
            return Ok(Fate::Parked);
        }
        let fault = format!("its machine {} is gone: {why}", row.instance_id);
        match self
            .repository
            .park_gone(lease, row, &fault, UNBLOCK, missed_for)
            .await
        {
            Ok(Some(generation)) => {
                tracing::error!(
                    gatewayd.id = row.id,
                    gatewayd.name = row.name,
                    gatewayd.state = row.state,
                    fault,
                    "row parked: its machine is gone"
                );
                self.push_failed(row, generation, fault).await;
                Ok(Fate::Parked)
            }
            Ok(None) => Ok(Fate::Spared),
            // Somebody's open transaction has the row: the next sweep comes back to it.
            Err(error) if error.is_outage() => Ok(Fate::Failed),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Sweeper {
    /// The entry in `failed`, as for every row that is parked: so that any Resque tool can retry it.
    async fn push_failed(&self, row: &Bereft, generation: i64, fault: String) {
        // An idle state has no job.
        let Some(step) = row.state.parse::<State>().ok().and_then(State::step) else {
            return;
        };
        let args = JobArgs {
            id: row.id,
            generation: Some(generation),
            traceparent: None,
        };
        let job = resque::Push {
            queue: step.queue().to_owned(),
            payload: args.payload(step),
        };
        let failed = [(job, resque::Failure::new("MachineGone", fault))];
        // Without Redis only this way of three to retry is lost.
        let pushed = tokio::time::timeout(PUSH_LIMIT, self.queue.push_failed(&failed, &self.owner));
        match crash::around("push_failed", pushed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(gatewayd.id = row.id, %error, "no failed job for a parked row"),
            Err(_) => tracing::warn!(
                gatewayd.id = row.id,
                "no failed job for a parked row: Redis is slow"
            ),
        }
    }
}

fn gone(row: &Bereft, why: String, fate: Fate) -> GoneRow {
    GoneRow {
        id: row.id,
        name: row.name.clone(),
        state: row.state.clone(),
        instance_id: row.instance_id.clone(),
        why,
        fate,
    }
}

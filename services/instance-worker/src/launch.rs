//! The step `initializeEc2Instance`: a machine for the row, running and with an address.

use aws_sdk_ec2::types::InstanceStateName;
use gatewayzen_core::repository::LaunchAttempt;
use gatewayzen_core::{Facts, Next, StepError};
use time::Duration;

use crate::attempt::Resolution;
use crate::describe::{By, Seen};
use crate::end::Asked;
use crate::host_key::fingerprint;
use crate::sentences::{asked_for, certainty, launch_error};
use crate::steps::{InstanceSteps, Turn, seconds};

impl InstanceSteps {
    /// One step towards a running machine: launch, or resolve a launch of before, or look whether it runs.
    pub(crate) async fn initialize(&self, turn: &Turn<'_>) -> Result<Next, StepError> {
        let Some(attempt) = turn.repository.launch_attempt(turn.row.id).await? else {
            let Some(attempt) = self.open_attempt(turn).await? else {
                return Ok(self.await_turn());
            };
            let instance = self.send_first(turn, &attempt).await?;
            // EC2 has only just begun: asking at once would cost all the others their next call.
            return Ok(self.not_yet(format!("EC2 to start {instance}")));
        };
        match &attempt.instance_id {
            Some(instance) => self.watch(turn, &attempt, instance).await,
            None => match self.resolve(turn, &attempt).await? {
                Resolution::Launched(instance) => self.watch(turn, &attempt, &instance).await,
                Resolution::Several(ids) => Err(several(&attempt, &ids)),
                Resolution::Open(until, Some(failure)) => Err(launch_error(&attempt, &failure, Some(until))),
                Resolution::Open(until, None) => Ok(Next::WaitUntil {
                    after: (until - turn.now())
                        .unsigned_abs()
                        .min(self.settings.consistency_window),
                    waiting_for: certainty(&attempt, until, turn.now()),
                }),
                Resolution::Nothing => self.begin_anew(turn, &attempt, "it launched nothing").await,
            },
        }
    }

    /// Sees whether the instance runs and has the address that will be dialled.
    async fn watch(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        instance: &str,
    ) -> Result<Next, StepError> {
        let found = self
            .describer
            .ask(By::Id, instance)
            .await
            .map_err(|failure| failure.step_error())?;
        let Some(seen) = found.first() else {
            return self.absent(turn, attempt, instance).await;
        };
        match &seen.state {
            InstanceStateName::Running => self.running(attempt, seen),
            InstanceStateName::ShuttingDown | InstanceStateName::Terminated => {
                let reason = seen.state_reason.as_deref().unwrap_or("EC2 gives no reason");
                let why = format!("EC2 ended {instance} ({}): {reason}", seen.state.as_str());
                self.begin_anew(turn, attempt, &why).await
            }
            InstanceStateName::Stopped | InstanceStateName::Stopping => Err(StepError::permanent(
                format!(
                    "{instance} is {} although it was only just launched",
                    seen.state.as_str()
                ),
                "Somebody stopped it: start it in EC2 and retry, or write the state `terminate`.",
            )),
            state => Ok(self.not_yet(format!("{instance} to run (EC2 says: {})", state.as_str()))),
        }
    }

    fn running(&self, attempt: &LaunchAttempt, seen: &Seen) -> Result<Next, StepError> {
        use gatewayzen_bootstrap::settings::ConnectVia;
        let via = self.connect_via.name();
        let address = match self.connect_via {
            ConnectVia::Private => &seen.private_address,
            ConnectVia::Public => &seen.public_address,
        };
        let Some(address) = address else {
            return Ok(self.not_yet(format!(
                "EC2 to give {} a {via} address (it runs; the workers dial the {via} one, by hosts.connect_via)",
                seen.id
            )));
        };
        let fingerprint = fingerprint(&attempt.host_key).map_err(|error| {
            StepError::permanent(
                format!(
                    "the host key of launch attempt {} is not one: {error}",
                    attempt.id
                ),
                "Restore the table launch_attempts from a backup; then retry.",
            )
        })?;
        Ok(Next::Advance {
            done: format!("{} runs at {address}: {}", seen.id, asked_for(attempt)),
            facts: Facts {
                public_address: seen.public_address.clone(),
                private_address: seen.private_address.clone(),
                host_key_fingerprint: Some(fingerprint),
                ..Facts::default()
            },
        })
    }

    /// EC2 may not show yet what it launched; after the consistency window, what it does not show is gone.
    async fn absent(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        instance: &str,
    ) -> Result<Next, StepError> {
        let now = turn.now();
        let known_for = attempt
            .instance_known_at
            .map_or(Duration::ZERO, |since| now - since);
        if known_for <= self.settings.consistency_window {
            return Ok(self.not_yet(format!(
                "EC2 to show {instance}, which it launched {} ago",
                seconds(known_for.unsigned_abs())
            )));
        }
        // Guards against a stale describe: a second machine must not be launched beside one that runs on.
        if self.ask_to_terminate(instance).await? == Asked::Taken {
            return Ok(self.not_yet(format!(
                "EC2 to show the end of {instance}, which it took but does not list"
            )));
        }
        let why = format!(
            "EC2 does not know {instance} {} after its launch",
            seconds(known_for.unsigned_abs())
        );
        self.begin_anew(turn, attempt, &why).await
    }

    /// Ends an attempt; the next try makes another.
    async fn begin_anew(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        why: &str,
    ) -> Result<Next, StepError> {
        turn.repository
            .end_launch_attempt(turn.lease, attempt.id, why)
            .await?
            .or_overtaken()?;
        Err(StepError::transient(
            format!("launch attempt {} came to nothing: {why}", attempt.id),
            "Should it happen again, try the AMI by hand.",
        ))
    }
}

fn several(attempt: &LaunchAttempt, ids: &[String]) -> StepError {
    StepError::permanent(
        format!(
            "EC2 shows {} live instances of launch attempt {}: {}",
            ids.len(),
            attempt.id,
            ids.join(", ")
        ),
        "Find out in EC2 where the other ones come from. To end them all and build anew, write the state `terminate`, \
         and then `instance`.",
    )
}

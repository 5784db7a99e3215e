//! The step `terminateEc2Instance`: no machine is left of the row, whatever launched it.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::InstanceStateName;
use gatewayzen_core::repository::LaunchAttempt;
use gatewayzen_core::{Facts, Next, StepError, crash};
use time::Duration;

use crate::attempt::Resolution;
use crate::describe::By;
use crate::errors::{Failure, Meaning};
use crate::sentences::certainty;
use crate::steps::{InstanceSteps, Turn, seconds};

const CALL: &str = "TerminateInstances";

impl InstanceSteps {
    /// One step towards the end: of the attempt in force first, by its instance's id; then of whatever carries the
    /// row's tags.
    pub(crate) async fn terminate(&self, turn: &Turn<'_>) -> Result<Next, StepError> {
        let attempt = turn.repository.launch_attempt(turn.row.id).await?;
        let mut done = "no machine is left".to_owned();
        if let Some(attempt) = &attempt {
            let instance = match &attempt.instance_id {
                Some(instance) => Some(instance.clone()),
                None => match self.resolve(turn, attempt).await? {
                    Resolution::Launched(instance) => Some(instance),
                    // The others carry the row's tags, and are found by them.
                    Resolution::Several(ids) => {
                        let first = ids.into_iter().next();
                        if let Some(instance) = &first {
                            self.resolved(turn, attempt, instance).await?;
                        }
                        first
                    }
                    Resolution::Nothing => None,
                    Resolution::Open(until, refusal) => {
                        let left = (until - turn.now()).unsigned_abs();
                        let refusal = refusal
                            .map(|failure| format!("; {}", failure.sentence()))
                            .unwrap_or_default();
                        return Ok(Next::WaitUntil {
                            after: left.min(self.settings.consistency_window),
                            waiting_for: certainty(attempt, until, turn.now()) + &refusal,
                        });
                    }
                },
            };
            if let Some(instance) = instance {
                if let Some(waiting_for) = self.end(turn, attempt, &instance).await? {
                    return Ok(self.not_yet(waiting_for));
                }
                done = format!("{instance} is terminated");
            }
        }
        if let Some(waiting_for) = self.end_strays(turn).await? {
            return Ok(self.not_yet(waiting_for));
        }
        if let Some(attempt) = attempt {
            turn.repository
                .end_launch_attempt(turn.lease, attempt.id, &done)
                .await?
                .or_overtaken()?;
        }
        Ok(Next::Advance {
            done,
            facts: Facts::default(),
        })
    }

    /// Ends the attempt's instance. What is still waited for, or `None` once it is gone: EC2 says that it is
    /// terminated, or, asked to end it, that it does not know it. That a describe does not show it is not enough.
    async fn end(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        instance: &str,
    ) -> Result<Option<String>, StepError> {
        let found = self
            .describer
            .ask(By::Id, instance)
            .await
            .map_err(|failure| failure.step_error())?;
        let waiting_for = match found.first().map(|seen| &seen.state) {
            Some(InstanceStateName::Terminated) => return Ok(None),
            Some(InstanceStateName::ShuttingDown) => return Ok(Some(format!("EC2 to terminate {instance}"))),
            Some(_) => format!("EC2 to terminate {instance}"),
            None => {
                // EC2 may not show yet what it launched a moment ago.
                let now = turn.now();
                let known_for = attempt
                    .instance_known_at
                    .map_or(Duration::ZERO, |since| now - since);
                if known_for > self.settings.consistency_window {
                    // Guards against a stale describe: a machine that runs on would be lost from sight for good.
                    return Ok(match self.ask_to_terminate(instance).await? {
                        Asked::Taken => Some(format!(
                            "EC2 to show the end of {instance}, which it took but does not list"
                        )),
                        Asked::Unknown => None,
                    });
                }
                format!(
                    "EC2 to show {instance}, which it launched {} ago",
                    seconds(known_for.unsigned_abs())
                )
            }
        };
        self.ask_to_terminate(instance).await?;
        Ok(Some(waiting_for))
    }

    /// Ends every other machine that carries the row's tags. What is still waited for, or `None` when there is none.
    async fn end_strays(&self, turn: &Turn<'_>) -> Result<Option<String>, StepError> {
        let by = By::Gatewayd(self.fleet(turn.repository).await?);
        let row = turn.row.id.to_string();
        let strays = self
            .describer
            .ask(by, &row)
            .await
            .map_err(|failure| failure.step_error())?;
        if strays.is_empty() {
            return Ok(None);
        }
        for stray in &strays {
            if !stray.is_ending() {
                // Guards against the worker that was frozen for long: meanwhile the row may have been built anew, and
                // what carries its tags is no stray then.
                turn.still_mine().await?;
                tracing::warn!(instance = stray.id, "ending another machine with this row's tags");
                self.ask_to_terminate(&stray.id).await?;
            }
        }
        let ids: Vec<&str> = strays.iter().map(|stray| stray.id.as_str()).collect();
        Ok(Some(format!(
            "EC2 to terminate {}, found by the row's tags",
            ids.join(", ")
        )))
    }

    /// Asks for an instance's end.
    pub(crate) async fn ask_to_terminate(&self, instance: &str) -> Result<Asked, StepError> {
        ask_to_terminate(&self.client, instance)
            .await
            .map_err(|failure| failure.step_error())
    }
}

/// Asks for an instance's end.
pub(crate) async fn ask_to_terminate(client: &Client, instance: &str) -> Result<Asked, Failure> {
    // Boxed, since the SDK's futures are nested deeper than the compiler follows through those of a step.
    let call = Box::pin(client.terminate_instances().instance_ids(instance).send());
    match crash::around(CALL, call).await {
        Ok(_) => Ok(Asked::Taken),
        Err(error) => {
            let failure = Failure::new(CALL, &error);
            if failure.meaning == Meaning::NoSuchInstance {
                Ok(Asked::Unknown)
            } else {
                Err(failure)
            }
        }
    }
}

/// What EC2 says to a wish for an instance's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It ends it.
    Taken,
    /// It does not know it, any more or yet.
    Unknown,
}

//! One launch attempt: stored, sent, and resolved, whoever crashes in between.
//!
//! The client token is the authority on what an attempt launched: sending the same request under it again launches
//! nothing new and tells what it launched before. After `send_until` nothing is sent any more, and after
//! [`SIGNATURE_VALIDITY`] and the consistency window on top of that, an attempt that shows no machine has none.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_sdk_ec2::operation::run_instances::RunInstancesOutput;
use gatewayzen_core::repository::{LaunchAttempt, Opening};
use gatewayzen_core::seal::Place;
use gatewayzen_core::{State, StepError, crash};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::describe::{By, Seen, is_instance_id};
use crate::errors::{Failure, Meaning};
use crate::host_key::HostKey;
use crate::request::LaunchRequest;
use crate::sentences::{forgotten, launch_error, not_made, not_opened};
use crate::steps::{InstanceSteps, Turn};

/// How long EC2 may still accept a request after it was signed: until then one that was held up on its way may arrive.
pub const SIGNATURE_VALIDITY: Duration = Duration::from_secs(15 * 60);

const CALL: &str = "RunInstances";
const LATE: &str = "the time in which this attempt may be sent is over";

/// What is known of an attempt whose instance was not.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// It launched this instance, which is now written to the attempt.
    Launched(String),
    /// EC2 shows several instances of it, which EC2's own rules do not allow.
    Several(Vec<String>),
    /// It launched nothing and never will; it is not yet ended.
    Nothing,
    /// It cannot be known before this time. With EC2's refusal of the last replay, if there was one.
    Open(OffsetDateTime, Option<Failure>),
}

impl InstanceSteps {
    /// Makes an attempt and stores it whole. Nothing is sent. `None`: as many launches are under way as may be.
    pub(crate) async fn open_attempt(&self, turn: &Turn<'_>) -> Result<Option<LaunchAttempt>, StepError> {
        let repository = turn.repository;
        let (fleet, id) = (self.fleet(repository).await?, Uuid::new_v4());
        let mut request = LaunchRequest::new(&self.settings, turn.row, fleet, id)?;
        request.volumes = self.images.volumes(&request.image).await?;
        let key = HostKey::generate().map_err(not_made)?;
        let token = id.to_string();
        let sealed = self
            .keys
            .seal(Place::launch_user_data(&token), key.user_data.expose())
            .map_err(not_made)?;
        let json = serde_json::to_value(&request).map_err(not_made)?;
        let opening = repository
            .open_launch_attempt(
                turn.lease,
                id,
                &token,
                &json,
                &sealed,
                &key.public,
                self.settings.send_for,
                self.settings.launches_at_once,
            )
            .await?;
        match opening {
            Opening::Full => return Ok(None),
            Opening::Checked(lease) => lease.or_overtaken()?,
        }
        // Read back: what is sent is what a replay will send.
        let attempt = repository.launch_attempt(turn.row.id).await?;
        attempt.ok_or(StepError::Overtaken).map(Some)
    }

    /// Sends an attempt for the first time. Of its only send, every answer of EC2 is final: what is refused has
    /// launched nothing, and the attempt is ended. Without an answer it stays open, to be replayed.
    pub(crate) async fn send_first(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
    ) -> Result<String, StepError> {
        let request = stored_request(attempt).map_err(not_made)?;
        match self.send(turn, attempt, &request).await? {
            Ok(instance) => Ok(instance),
            Err(failure) => {
                if !matches!(failure.meaning, Meaning::Unanswered | Meaning::TokenMismatch) {
                    turn.repository
                        .end_launch_attempt(turn.lease, attempt.id, &failure.sentence())
                        .await?
                        .or_overtaken()?;
                }
                Err(launch_error(attempt, &failure, None))
            }
        }
    }

    /// Finds out what an attempt of before launched: by replaying it, or, once that is not allowed any more, EC2
    /// refuses it, or it is a newer version's, by looking for its token and tag.
    pub(crate) async fn resolve(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
    ) -> Result<Resolution, StepError> {
        let mut refusal = None;
        let until = attempt.send_until + SIGNATURE_VALIDITY + self.settings.consistency_window;
        if let Ok(request) = stored_request(attempt)
            && turn.now() < attempt.send_until
        {
            match self.send(turn, attempt, &request).await? {
                Ok(instance) => return Ok(Resolution::Launched(instance)),
                // The machine may have been given another host key than ours: it can be ended, but not adopted.
                Err(failure)
                    if failure.meaning == Meaning::TokenMismatch && turn.row.state != State::Terminate =>
                {
                    return Err(launch_error(attempt, &failure, Some(until)));
                }
                // The refusal of a replay says nothing about the sends before it.
                Err(failure)
                    if matches!(
                        failure.meaning,
                        Meaning::Refused | Meaning::NotAllowed | Meaning::TokenMismatch | Meaning::Capacity
                    ) =>
                {
                    refusal = Some(failure);
                }
                Err(failure) => return Err(launch_error(attempt, &failure, None)),
            }
        }
        let found = self.look(attempt).await?;
        let alive: Vec<&Seen> = found.iter().filter(|seen| !seen.is_ending()).collect();
        match (alive.as_slice(), found.first()) {
            (&[one], _) | ([], Some(one)) => {
                self.resolved(turn, attempt, &one.id).await?;
                Ok(Resolution::Launched(one.id.clone()))
            }
            ([], None) => {
                let over = turn.now() >= until;
                Ok(if over {
                    Resolution::Nothing
                } else {
                    Resolution::Open(until, refusal)
                })
            }
            (several, _) => Ok(Resolution::Several(
                several.iter().map(|seen| seen.id.clone()).collect(),
            )),
        }
    }

    /// Writes which instance an attempt launched.
    pub(crate) async fn resolved(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        instance: &str,
    ) -> Result<(), StepError> {
        turn.repository
            .resolve_launch_attempt(turn.lease, attempt.id, instance)
            .await?
            .or_overtaken()
    }

    /// Sends the stored request, and writes the instance of its answer at once. Never after `send_until`.
    async fn send(
        &self,
        turn: &Turn<'_>,
        attempt: &LaunchAttempt,
        request: &LaunchRequest,
    ) -> Result<Result<String, Failure>, StepError> {
        let row = attempt.id.to_string();
        let sealed = attempt
            .sealed_user_data
            .as_deref()
            .ok_or_else(|| forgotten(attempt))?;
        let user_data = self
            .keys
            .open(Place::launch_user_data(&row), sealed)
            .map_err(|error| not_opened(attempt, &error))?;
        let once = aws_sdk_ec2::config::Config::builder().retry_config(RetryConfig::disabled());
        // One send for one step: so it is known whether an answer is the answer to all that was sent.
        let call = request
            .call(&self.client, &attempt.client_token, &user_data)
            .customize()
            .config_override(once)
            .send();
        // Guards against the worker that was stopped and wakes up late: signed too late, its request would be new.
        let left = Duration::try_from(attempt.send_until - turn.now()).unwrap_or_default();
        if left.is_zero() {
            return Ok(Err(Failure::unanswered(CALL, LATE)));
        }
        let answer = match crash::around(CALL, tokio::time::timeout(left, call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Ok(Err(Failure::new(CALL, &error))),
            Err(_) => return Ok(Err(Failure::unanswered(CALL, LATE))),
        };
        let Some(instance) = launched(&answer) else {
            return Ok(Err(Failure::unanswered(CALL, "the answer names no instance")));
        };
        self.resolved(turn, attempt, instance).await?;
        Ok(Ok(instance.to_owned()))
    }

    /// Every instance that EC2 shows for an attempt's token or tag.
    async fn look(&self, attempt: &LaunchAttempt) -> Result<Vec<Seen>, StepError> {
        let by_token = self.describer.ask(By::Token, &attempt.client_token);
        let tag = attempt.id.to_string();
        let by_tag = self.describer.ask(By::Attempt, &tag);
        let (by_token, by_tag) = tokio::join!(by_token, by_tag);
        let mut found = by_token.map_err(|failure| failure.step_error())?;
        for seen in by_tag.map_err(|failure| failure.step_error())? {
            if found.iter().all(|known| known.id != seen.id) {
                found.push(seen);
            }
        }
        Ok(found)
    }
}

/// The instance that an answer names, where it names one.
pub(crate) fn launched(answer: &RunInstancesOutput) -> Option<&str> {
    let instance = answer.instances().first()?;
    instance.instance_id().filter(|id| is_instance_id(id))
}

/// The request as it was stored. One that a newer version stored is not understood: that is no fault of its row, which a newer
/// worker may take next, or, where all went back to this version, goes on without it.
pub(crate) fn stored_request(attempt: &LaunchAttempt) -> Result<LaunchRequest, serde_json::Error> {
    serde_json::from_value(attempt.request.clone())
}

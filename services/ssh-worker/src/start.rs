//! `startGatewayd`: start it, and see it answer with the host's own certificate.

use std::time::Duration;

use gatewayzen_core::seal::SecretBytes;
use gatewayzen_core::{Facts, Next, StepError};
use gatewayzen_worker::StepContext;
use gatewayzen_worker::https::{Fingerprint, HttpsError, PinnedClient, Request, Timeouts};
use http::Method;
use tokio::time::{Instant, sleep};

use crate::command::Output;
use crate::host::{Halt, Host, Step};
use crate::parse::{self, shown};
use crate::remote::Command;
use crate::steps::SshSteps;
use crate::stop;

/// How soon a gatewayd that does not answer yet is asked again.
const AGAIN: Duration = Duration::from_millis(150);
/// Any path will do: without the key gatewayd answers 401, and that is an answer.
const ASKED: &str = "/v1/config/domain";

pub(crate) async fn start(steps: &SshSteps, context: &StepContext) -> Step {
    let pin = pinned(context)?;
    let host = Host::reach(steps, context, false).await?;
    let client = client(&host, pin)?;
    check_wallet(&host, context).await?;

    // Nothing runs before this step: whatever does was started by an earlier try of it, or by the image at its boot.
    let running = stop::pids(&host).await?;
    if !running.is_empty() {
        if ask(&client).await.is_ok() {
            host.session.close().await;
            return Ok(answers(&host_address(&client), running.len(), " (an earlier try started it)"));
        }
        // Half a gatewayd, or one without our certificate; a second start on top of it changes nothing.
        stop::down(&host).await?;
    }
    let started = host.must(Command::Start, steps.gatewayd.command_timeout).await?;
    wait(&host, &client, &started).await?;
    let running = stop::pids(&host).await?;
    if running.is_empty() {
        let why = "lists no process, although gatewayd answers over HTTPS with its pinned certificate";
        return Err(host.strange(Command::Processes, why, &started).into());
    }
    host.session.close().await;
    Ok(answers(&host_address(&client), running.len(), ""))
}

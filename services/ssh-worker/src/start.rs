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
/// What is asked. Without the key gatewayd answers 401, and that is an answer.
const PATH: &str = "/v1/config/domain";

pub(crate) async fn start(steps: &SshSteps, context: &StepContext) -> Step {
    let pin = pinned(context)?;
    let host = Host::reach(steps, context, false).await?;
    let client = client(&host, pin)?;
    check_wallet(&host, context).await?;

    // Nothing runs before this step: whatever does was started by an earlier try of it, or by the image at its boot.
    let before = stop::pids(&host).await?;
    let begun_before = !before.is_empty() && ask(&client).await.is_ok();
    if !begun_before {
        if !before.is_empty() {
            // Half a gatewayd, or one without our certificate: a second start on top of it would change nothing.
            stop::down(&host).await?;
        }
        let started = host.must(Command::Start, steps.gatewayd.command_timeout).await?;
        wait(&host, &client, &started).await?;
    }
    let running = if begun_before {
        before
    } else {
        listed(&host).await?
    };
    let done = format!(
        "{} processes run, and gatewayd answers at https://{}:{} with its pinned certificate",
        running.len(),
        host.session.address(),
        steps.gatewayd.https_port
    );
    host.session.close().await;
    Ok(Next::Advance {
        facts: Facts::default(),
        done,
    })
}

/// The certificate that the `key` step recorded.
fn pinned(context: &StepContext) -> Result<Fingerprint, StepError> {
    let Some(text) = context.gatewayd.tls_fingerprint.as_deref() else {
        return Err(StepError::permanent(
            "the row has no certificate to pin (tls_fingerprint), which the step retrieveApiKey records",
            "Terminate the server and build it anew.",
        ));
    };
    text.parse().map_err(|error| {
        StepError::permanent(
            format!("the certificate that the row names cannot be pinned: {error}"),
            "Terminate the server and build it anew.",
        )
    })
}

fn client(host: &Host<'_>, pin: Fingerprint) -> Result<PinnedClient, StepError> {
    let settings = &host.steps.gatewayd;
    let timeouts = Timeouts {
        connect: settings.request_timeout,
        answer: settings.request_timeout,
    };
    PinnedClient::new(host.session.address(), settings.https_port, pin, timeouts).map_err(|error| {
        StepError::environment(
            format!("this build cannot speak TLS: {error}"),
            "Install another build.",
        )
    })
}

/// A wallet that was set and not saved is forgotten by the next start, and mended by the step after this one; another
/// wallet than ours in the file is somebody else's, and must not come to life.
async fn check_wallet(host: &Host<'_>, context: &StepContext) -> Result<(), Halt> {
    let output = host.ask(Command::SavedWallet).await?;
    let saved = parse::wallet(&output.stdout).map_err(|not| {
        host.strange(
            Command::SavedWallet,
            format!("printed {not} where a cold wallet's address was expected"),
            &output,
        )
    })?;
    let kept = context.repository.wallet_address(context.lease.id).await?;
    match (kept, saved) {
        (Some(kept), Some(saved)) if kept != saved => Err(StepError::permanent(
            format!(
                "gatewayd on host {} has saved the cold wallet {saved}, but the one that is kept for it is {kept}; it was not \
                 started",
                host.session.address()
            ),
            "Find out whose wallet that is. If it must go, remove COLD_WALLET from gatewayd's config/config.json on its host; \
             then retry.",
        )
        .into()),
        _ => Ok(()),
    }
}

/// Asks gatewayd once. Any HTTP answer from the holder of the pinned certificate will do.
async fn ask(client: &PinnedClient) -> Result<(), HttpsError> {
    // No credentials are needed to see that it answers, so none are sent.
    let password = SecretBytes::from("none");
    let request = Request {
        method: Method::GET,
        path: PATH,
        user: "gatewayzen",
        password: &password,
        body: None,
    };
    match client.request(request).await {
        Ok(_) | Err(HttpsError::TooLarge { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Waits for a gatewayd that was started to answer.
async fn wait(host: &Host<'_>, client: &PinnedClient, started: &Output) -> Result<(), Halt> {
    let time = host.steps.gatewayd.start_timeout;
    let deadline = Instant::now() + time;
    loop {
        let error = match ask(client).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let address = host.session.address();
        match error {
            HttpsError::NotPinned { .. } => {
                return Err(StepError::permanent(
                    format!("what answers for gatewayd on host {address} is not what was started: {error}"),
                    "See what listens at that port. gatewayd must use the pair that GatewayZen made (SSL_KEY_PATH and \
                     SSL_CERTIFICATE_PATH, which its config/config.json must not set otherwise); then retry.",
                )
                .into());
            }
            HttpsError::NotOwner { .. } => {
                return Err(StepError::permanent(
                    format!("somebody may be posing as gatewayd on host {address}: {error}"),
                    "See who answers at that address before you retry.",
                )
                .into());
            }
            _ if Instant::now() >= deadline => return Err(silent(host, started, &error).await.into()),
            _ => sleep(AGAIN).await,
        }
    }
}

/// The sentence for a gatewayd that was started and does not answer.
async fn silent(host: &Host<'_>, started: &Output, error: &HttpsError) -> StepError {
    let processes = match stop::pids(host).await {
        Ok(pids) if pids.is_empty() => "none of its processes runs".to_owned(),
        Ok(pids) => format!("{} processes run", pids.len()),
        Err(_) => "its processes could not be listed".to_owned(),
    };
    let printed = [started.stderr.as_slice(), started.stdout.as_slice()]
        .into_iter()
        .map(shown)
        .find(|text| !text.is_empty());
    StepError::transient(
        format!(
            "gatewayd on host {} does not answer {} s after `start` ({}): {processes}; {error}; `start` printed: {}",
            host.session.address(),
            host.steps.gatewayd.start_timeout.as_secs_f64(),
            started.end,
            printed.as_deref().unwrap_or("nothing")
        ),
        "See gatewayd's logs on the host, its database (DATABASE_URL) and its port (gatewayd.https_port), which this worker \
         must be allowed to reach.",
    )
}

/// The processes, of which there must be some.
async fn listed(host: &Host<'_>) -> Result<Vec<u32>, Halt> {
    let pids = stop::pids(host).await?;
    if !pids.is_empty() {
        return Ok(pids);
    }
    Err(StepError::transient(
        format!(
            "gatewayd on host {} answers with its pinned certificate, but `processes` lists none: a stop could not be verified",
            host.session.address()
        ),
        "Mend the setting gatewayd.commands.processes.",
    )
    .into())
}

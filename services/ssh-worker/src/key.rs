//! `retrieveApiKey`: a host key of the host's own, the API key, the host's TLS certificate, and the release in place.

use gatewayzen_core::seal::Place;
use gatewayzen_core::{Facts, Next, StepError};
use gatewayzen_worker::StepContext;

use crate::host::{Host, Step};
use crate::remote::Command;
use crate::steps::SshSteps;
use crate::{host_key, logins, parse};

pub(crate) async fn retrieve(steps: &SshSteps, context: &StepContext) -> Step {
    let host = Host::reach(steps, context, true).await?;
    // Before anything is learnt or told: whoever has read the launch's user data could still stand between.
    let host = host_key::make_its_own(host).await?;
    logins::bring_next_key(&host).await?;

    // One at a time on a host, which the lock there sees to: of several first calls each would make another key.
    let output = host.run(Command::GetKey, steps.gatewayd.command_timeout).await?;
    // gatewayd may print the right key and fail afterwards: what it printed counts, not how it ended.
    let Some(key) = parse::api_key(&output.stdout) else {
        return Err(host
            .strange(Command::GetKey, "printed no API key", &output)
            .into());
    };
    let row = context.lease.id.to_string();
    let sealed = steps
        .keys
        .seal(Place::api_key(&row), key.expose())
        .map_err(|error| {
            StepError::environment(
                format!("gatewayd's API key cannot be sealed: {error}"),
                "See why this machine has no random source.",
            )
        })?;
    context
        .repository
        .keep_api_key(&context.lease, &sealed)
        .await?
        .or_overtaken()?;

    let output = host.ask(Command::Tls).await?;
    let Some(certificate) = parse::certificate(&output.stdout) else {
        return Err(host
            .strange(Command::Tls, "printed no whole certificate in PEM", &output)
            .into());
    };
    let output = host.ask(Command::Release).await?;
    let Some(release) = parse::release(&output.stdout) else {
        return Err(host
            .strange(
                Command::Release,
                "printed no lines version=… and commit=…",
                &output,
            )
            .into());
    };
    let done = format!(
        "API key read, certificate {certificate} pinned, release {} in place",
        release.version
    );
    let facts = Facts {
        tls_fingerprint: Some(certificate.to_string()),
        release_in_place: Some(release.version),
        commit_in_place: Some(release.commit),
        ..Facts::default()
    };
    host.session.close().await;
    Ok(Next::Advance { facts, done })
}

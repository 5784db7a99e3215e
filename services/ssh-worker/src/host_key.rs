//! The host key of the launch, replaced by one that was made on the host.
//!
//! User data can be read on the instance, so the key in it is only good for the way to this step. Each moment of it may be
//! the last one of this worker, and the step begun again goes on from what it finds:
//!
//! | killed after | found by the next try | it |
//! |---|---|---|
//! | the key was made on the host | no pending key | has it printed again, not made again |
//! | it was stored as pending | the host shows the old key | the same; installs it |
//! | it was installed | the host shows the pending key (or still the old one: it is told to reload again) | promotes it |
//! | it was promoted | `launch_key_erased_at` is empty | erases |
//! | the host has erased | the same | erases again what is gone, and forgets |

use std::time::Duration;

use gatewayzen_core::StepError;
use russh::keys::PublicKey;
use tokio::time::{Instant, sleep};

use crate::host::{Halt, Host};
use crate::identity::{Accepted, fingerprint, line, read};
use crate::parse;
use crate::remote::Command;
use crate::session::{ConnectError, Session};

/// How long an SSH server may take to show its new key, and how soon it is asked again. While it reloads it may refuse
/// connections for a moment.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

/// Sees to it that the host has a host key of its own, and that nobody can have the one of its launch any more.
pub(crate) async fn make_its_own(host: Host<'_>) -> Result<Host<'_>, Halt> {
    let (repository, lease) = (host.of.repository, host.of.lease);
    let host = if host.identity.host_key_replaced_at.is_none() {
        replace(host).await?
    } else {
        host
    };
    if host.identity.launch_key_erased_at.is_none() {
        let own = line(host.session.host_key());
        host.ask_with(Command::EraseHostKey, &[("GATEWAYZEN_HOST_KEY", &own)])
            .await?;
        repository.forget_launch_key(lease).await?.or_overtaken()?;
    }
    Ok(host)
}

async fn replace(host: Host<'_>) -> Result<Host<'_>, Halt> {
    let (repository, lease) = (host.of.repository, host.of.lease);
    let pending = host.identity.pending_host_key.as_deref();
    let pending = pending.and_then(|text| read(text).ok());
    // Killed after the host had taken it: then it is met already.
    let met = pending.is_some_and(|key| key.key_data() == host.session.host_key().key_data());
    let host = if met {
        host
    } else {
        let new = make(&host).await?;
        // From here on both are accepted, so that the host is known whenever it comes to show the new one.
        repository
            .keep_pending_host_key(lease, &line(&new))
            .await?
            .or_overtaken()?;
        install(&host, &new).await?;
        meet(host, &new).await?
    };
    // From here on the key of the launch is nobody's.
    let new = line(host.session.host_key());
    repository.promote_host_key(lease, &new).await?.or_overtaken()?;
    Ok(host)
}

async fn make(host: &Host<'_>) -> Result<PublicKey, Halt> {
    let output = host.ask(Command::MakeHostKey).await?;
    parse::host_key(&output.stdout).ok_or_else(|| {
        host.strange(Command::MakeHostKey, "printed no ed25519 public key", &output)
            .into()
    })
}

async fn install(host: &Host<'_>, new: &PublicKey) -> Result<(), Halt> {
    let (before, new) = (line(host.session.host_key()), line(new));
    let variables = [
        ("GATEWAYZEN_HOST_KEY", new.as_str()),
        ("GATEWAYZEN_HOST_KEY_BEFORE", before.as_str()),
    ];
    host.ask_with(Command::InstallHostKey, &variables).await.map(drop)
}

/// Connects anew until the host shows the new key, which proves that it has its private half.
async fn meet<'a>(host: Host<'a>, new: &PublicKey) -> Result<Host<'a>, Halt> {
    let Host {
        steps,
        session,
        identity,
        of,
    } = host;
    let (address, which) = (session.address().to_owned(), session.logged_in_with());
    let before = session.host_key().clone();
    session.close().await;
    let accepted = Accepted::Keys(vec![before.clone(), new.clone()]);
    let deadline = Instant::now() + SHOWN_WITHIN;
    loop {
        let shown = steps
            .ssh
            .connect_with(which, &address, &accepted, steps.connect_timeout)
            .await;
        match shown {
            Ok(session) if shows(&session, new) => {
                return Ok(Host {
                    steps,
                    session,
                    identity,
                    of,
                });
            }
            Ok(session) => session.close().await,
            Err(ConnectError::Unreachable(_)) if Instant::now() < deadline => {}
            Err(error) => return Err(steps.not_connected(&of.row.name, &address, &error).into()),
        }
        if Instant::now() >= deadline {
            return Err(StepError::transient(
                format!(
                    "host {address} still shows the SSH host key {} {} s after `install_host_key` gave it {}",
                    fingerprint(&before),
                    SHOWN_WITHIN.as_secs(),
                    fingerprint(new)
                ),
                "See which file its SSH server reads its host key from, and mend the setting gatewayd.commands.install_host_key.",
            )
            .into());
        }
        sleep(AGAIN).await;
    }
}

fn shows(session: &Session, key: &PublicKey) -> bool {
    session.host_key().key_data() == key.key_data()
}

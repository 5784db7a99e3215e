//! Which of the fleet's SSH keys a host lets in, and how it goes over from one to the other.
//!
//! Nothing here can lock us out: a key is taken out only over a session of the other one, the host itself refuses to take
//! it out where the other is not in the file, and what is seen to be amiss is put back over the session that is still open.

use gatewayzen_core::StepError;

use crate::host::{Halt, Host};
use crate::identity::{fingerprint, line};
use crate::remote::Command;
use crate::session::{ConnectError, FleetKey};

/// Has the host let the fleet's next key in as well, if there is one, and sees it by a login with that key alone.
pub(crate) async fn bring_next_key(host: &Host<'_>) -> Result<(), Halt> {
    let Some(next) = host.steps.ssh.public(FleetKey::Next) else {
        return Ok(());
    };
    if host.session.logged_in_with() == FleetKey::Next {
        return Ok(());
    }
    host.ask_with(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", &line(next))])
        .await?;
    match host.again(FleetKey::Next).await {
        Ok(session) => session.close().await,
        Err(error) => return Err(not_seen(host, &error).into()),
    }
    let (repository, lease) = (host.of.repository, host.of.lease);
    repository
        .record_ssh_login(lease, &fingerprint(next), true)
        .await?
        .or_overtaken()?;
    Ok(())
}

/// Has the host let the fleet's former key in no more, and sees that it does not.
pub(crate) async fn take_old_key_out(host: &Host<'_>) -> Result<(), Halt> {
    let address = host.session.address();
    let (Some(old), Some(new)) = (
        host.steps.ssh.public(FleetKey::Current),
        host.steps.ssh.public(FleetKey::Next),
    ) else {
        return Err(StepError::permanent("there is no next key", "Set ssh.next_key_file.").into());
    };
    // What was written down of this host before is not enough: this very session is one of the new key.
    if host.session.logged_in_with() != FleetKey::Next {
        return Err(StepError::transient(
            format!("host {address} does not let the new key in any more, so the old one stays there"),
            "Run `gatewayzen ssh-key rotate` again.",
        )
        .into());
    }
    let (old_line, new_line) = (line(old), line(new));
    let variables = [
        ("GATEWAYZEN_SSH_KEY", old_line.as_str()),
        ("GATEWAYZEN_SSH_KEY_KEPT", new_line.as_str()),
    ];
    host.ask_with(Command::DeauthorizeKey, &variables).await?;
    match host.again(FleetKey::Next).await {
        Ok(session) => session.close().await,
        Err(error) => {
            // Only this session is left: both keys are put back over it.
            for key in [&new_line, &old_line] {
                host.ask_with(Command::AuthorizeKey, &[("GATEWAYZEN_SSH_KEY", key)])
                    .await?;
            }
            return Err(not_seen(host, &error).into());
        }
    }
    match host.again(FleetKey::Current).await {
        Err(ConnectError::Refused { .. }) => {}
        Ok(session) => {
            session.close().await;
            return Err(StepError::transient(
                format!(
                    "host {address} still lets the old key in, although it was taken out of the user's authorized_keys: it stands \
                     somewhere else on the host"
                ),
                "Find it (AuthorizedKeysFile and AuthorizedKeysCommand in `sshd -T`), or mend gatewayd.commands.deauthorize_key.",
            )
            .into());
        }
        Err(error) => return Err(not_seen(host, &error).into()),
    }
    let (repository, lease) = (host.of.repository, host.of.lease);
    repository
        .record_ssh_login(lease, &fingerprint(old), false)
        .await?
        .or_overtaken()?;
    Ok(())
}

fn not_seen(host: &Host<'_>, error: &ConnectError) -> StepError {
    StepError::transient(
        format!(
            "host {} was told to change which of the fleet's SSH keys it lets in, and a new login did not show it: {error}",
            host.session.address()
        ),
        "See the user's authorized_keys on the host and `sshd -T`, and mend gatewayd.commands.authorize_key or deauthorize_key.",
    )
}

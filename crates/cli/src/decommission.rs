//! `gatewayzen terminate` and `gatewayzen policy`: ending a gatewayd, and what must be kept elsewhere before.

use gatewayzen_core::State;
use serde_json::json;
use time::OffsetDateTime;

use crate::args::{self, Move};
use crate::connect::Connections;
use crate::failure::{Failure, refusal};
use crate::output::Output;
use crate::text::{moment, rfc3339};
use crate::writes;

pub(crate) async fn terminate(
    connections: &Connections,
    output: &Output,
    args: args::Terminate,
) -> Result<(), Failure> {
    let args::Terminate {
        name,
        without_backup,
        act,
    } = args;
    let person = act.person();
    match act.reason {
        Some(reason) if without_backup => {
            let repository = connections.repository().await?;
            let before = writes::named(&repository, &name).await?;
            let written = repository
                .terminate_without_backup(&name, &reason, person.as_deref())
                .await?;
            let after = writes::result(&repository, &name, written).await?;
            let sentence = format!(
                "{name}: {} → {}, without a look at its backups, which the audit now says; `gatewayzen watch {name}` shows its walk",
                before.state, after.state
            );
            writes::told(output, &before, &after, &sentence)
        }
        why => {
            let args = Move {
                name,
                state: State::Terminate,
                release: None,
                why,
            };
            writes::write_state(connections, output, &args).await
        }
    }
}

pub(crate) async fn policy(
    connections: &Connections,
    output: &Output,
    args: &args::Policy,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let change = args.require_wallet_backup.is_some() || args.require_host_backup.is_some();
    if change {
        repository
            .set_decommission_policy(
                args.require_wallet_backup,
                args.require_host_backup,
                args.act.reason.as_deref().unwrap_or_default(),
                args.act.person().as_deref(),
            )
            .await?
            .map_err(|why| Failure::Failed(refusal(&why)))?;
    }
    let policy = repository.decommission_policy().await?;
    if output.json {
        return output.json(&json!({
            "require_wallet_backup": policy.require_wallet_backup,
            "require_host_backup": policy.require_host_backup,
            "changed_at": rfc3339(policy.changed_at),
            "changed_by": policy.changed_by,
        }));
    }
    let must = |required| if required { "must be" } else { "need not be" };
    output.text(&format!(
        "before a gatewayd is terminated:\n  its cold wallet {} in a verified backup\n  its host {} backed up since gatewayd was last \
         started there\nso since {}, by {}\n",
        must(policy.require_wallet_backup),
        must(policy.require_host_backup),
        moment(policy.changed_at, OffsetDateTime::now_utc()),
        policy.changed_by,
    ))?;
    let command = !connections.settings.gatewayd.backup_command.trim().is_empty();
    match (policy.require_host_backup, command) {
        (true, false) => eprintln!(
            "gatewayzen: this configuration has no gatewayd.backup_command: if the ssh-workers' has none either, no gatewayd that \
             was ever started can be terminated"
        ),
        (false, true) => eprintln!(
            "gatewayzen: this configuration has a gatewayd.backup_command, which runs in the step of `stop` alone: a gatewayd that \
             goes from `live` to `terminate` ends without a backup of its host, unless --require-host-backup yes"
        ),
        (true, true) | (false, false) => {}
    }
    Ok(())
}

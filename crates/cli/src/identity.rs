//! `gatewayzen identity`: what a machine is known by, and an operator's word that it changed.

use gatewayzen_core::repository::{Audited, HostIdentity};
use gatewayzen_core::{Gatewayd, Repository};
use serde_json::json;

use crate::args::Identity;
use crate::connect::Connections;
use crate::failure::{Failure, refusal};
use crate::output::Output;
use crate::text::{moment, paragraphs, rfc3339};

pub(crate) async fn identity(
    connections: &Connections,
    output: &Output,
    act: Identity,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    match act {
        Identity::Show { name } => show(&repository, output, &name).await,
        Identity::Reset {
            name,
            fingerprint,
            reason,
        } => reset(&repository, output, &name, &fingerprint, &reason).await,
    }
}

async fn show(repository: &Repository, output: &Output, name: &str) -> Result<(), Failure> {
    let row = repository.gatewayd_named(name).await?;
    let row = row.ok_or_else(|| Failure::no_such_name(name))?;
    let known = repository.host_identity(row.id).await?;
    let audit = repository.identity_audit(row.id).await?;
    if output.json {
        return output.json(&json!({
            "id": row.id,
            "name": row.name,
            "instance_id": row.instance_id,
            "host_key_fingerprint": row.host_key_fingerprint,
            "host_key_expected": known.as_ref().is_some_and(|known| known.expected_host_key.is_some()),
            "host_key_pending": known.as_ref().is_some_and(|known| known.pending_host_key.is_some()),
            "host_key_replaced_at": known.as_ref().and_then(|known| known.host_key_replaced_at).map(rfc3339),
            "launch_key_erased_at": known.as_ref().and_then(|known| known.launch_key_erased_at).map(rfc3339),
            "tls_fingerprint": row.tls_fingerprint,
            "ssh_keys": known.as_ref().map(|known| &known.lets_in),
            "resets": audit.iter().map(as_json).collect::<Vec<_>>(),
        }));
    }
    let mut pairs = vec![
        (
            "machine".to_owned(),
            row.instance_id.clone().unwrap_or_else(|| "none".into()),
        ),
        ("SSH host key".to_owned(), host_key(&row, known.as_ref())),
        (
            "certificate".to_owned(),
            row.tls_fingerprint
                .clone()
                .unwrap_or_else(|| "none is pinned".into()),
        ),
    ];
    for key in known.iter().flat_map(|known| &known.lets_in) {
        pairs.push(("lets in".to_owned(), format!("the SSH key {key}")));
    }
    for entry in &audit {
        let by = entry
            .person
            .as_ref()
            .map(|person| format!(" ({person})"))
            .unwrap_or_default();
        let text = format!(
            "{} by {}{by}, {} → {}: {}",
            moment(entry.at, row.read_at),
            entry.login,
            entry.details["former"].as_str().unwrap_or("none"),
            entry.details["expected"].as_str().unwrap_or("none"),
            entry.reason
        );
        pairs.push((entry.action.clone(), text));
    }
    output.text(&format!(
        "{} ({})\n{}",
        row.name,
        row.state,
        paragraphs(&pairs, output.width)
    ))
}

fn host_key(row: &Gatewayd, known: Option<&HostIdentity>) -> String {
    let Some(fingerprint) = &row.host_key_fingerprint else {
        return "none is known".to_owned();
    };
    let how = match known {
        Some(known) if known.expected_host_key.is_some() => {
            "expected by an operator; no host with it has answered yet, and no other is accepted"
        }
        Some(known) if known.pending_host_key.is_some() => "being replaced by one that was made on the host",
        Some(known) if known.host_key_replaced_at.is_some() && known.launch_key_erased_at.is_none() => {
            "made on the host; the launch's is not erased there yet"
        }
        Some(known) if known.host_key_replaced_at.is_some() => "made on the host",
        Some(_) => "that of the launch, which the next step `key` replaces",
        None => "of no machine",
    };
    format!("{fingerprint} ({how})")
}

async fn reset(
    repository: &Repository,
    output: &Output,
    name: &str,
    fingerprint: &str,
    reason: &str,
) -> Result<(), Failure> {
    let reset = repository
        .reset_identity(name, fingerprint, person().as_deref(), reason)
        .await?
        .map_err(|why| Failure::Failed(refusal(&why)))?;
    if output.json {
        return output
            .json(&json!({ "kind": reset.kind, "former": reset.former, "expected": reset.expected }));
    }
    let what = if reset.kind == "ssh" {
        "SSH host key"
    } else {
        "TLS certificate"
    };
    output.text(&format!(
        "{name}: from now on only the {what} {} is accepted; it was {}\n\
         what has a fault because of it wants `gatewayzen retry {name}`\n",
        reset.expected,
        reset.former.as_deref().unwrap_or("none")
    ))
}

/// Who sits at this terminal, by its own word; the audit keeps it beside the login of the database.
pub(crate) fn person() -> Option<String> {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|text| !text.trim().is_empty()))?;
    Some(name.trim().chars().take(200).collect())
}

fn as_json(entry: &Audited) -> serde_json::Value {
    json!({
        "at": rfc3339(entry.at),
        "login": entry.login,
        "person": entry.person,
        "action": entry.action,
        "reason": entry.reason,
        "details": entry.details,
    })
}

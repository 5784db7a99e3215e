//! Rows as they are listed and shown.

use std::time::Duration;

use gatewayzen_core::Gatewayd;
use gatewayzen_core::repository::{Filter, HistoryEntry, Surroundings};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::args::List;
use crate::connect::Connections;
use crate::failure::Failure;
use crate::output::Output;
use crate::text::{self, between, duration, moment, relative, rfc3339};

/// A row's columns, by their names in the database.
pub(crate) fn columns(row: &Gatewayd) -> Map<String, Value> {
    let time = |when: Option<OffsetDateTime>| json!(when.map(rfc3339));
    let fields = json!({
        "id": row.id,
        "name": row.name,
        "state": row.state.name(),
        "release": row.release,
        "ami": row.ami,
        "instance_type": row.instance_type,
        "owner_id": row.owner_id,
        "traceparent": row.traceparent,
        "hold": row.hold,
        "held_since": time(row.held_since),
        "generation": row.generation,
        "since": rfc3339(row.since),
        "clock_started_at": rfc3339(row.clock_started_at),
        "public_address": row.public_address,
        "private_address": row.private_address,
        "instance_id": row.instance_id,
        "ripple_address": row.ripple_address,
        "release_in_place": row.release_in_place,
        "commit_in_place": row.commit_in_place,
        "host_key_fingerprint": row.host_key_fingerprint,
        "tls_fingerprint": row.tls_fingerprint,
        "attempts": row.attempts,
        "next_try_at": time(row.next_try_at),
        "waiting_for": row.waiting_for,
        "last_error": row.last_error,
        "last_error_at": time(row.last_error_at),
        "fault": row.fault,
        "unblock": row.unblock,
        "lease_number": row.lease_number,
        "lease_owner": row.lease_owner,
        "lease_taken_at": time(row.lease_taken_at),
        "lease_until": time(row.lease_until),
        "created_at": rfc3339(row.created_at),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What is the matter with a row, in a few words; empty where nothing is.
pub(crate) fn note(row: &Gatewayd) -> String {
    let now = row.read_at;
    let held = row.hold.as_ref().map(|reason| format!("on hold: {reason}"));
    let fault = row.fault.as_ref().map(|fault| format!("fault: {fault}"));
    if held.is_some() || fault.is_some() {
        return [held, fault].into_iter().flatten().collect::<Vec<_>>().join("; ");
    }
    if row.lease_until.is_some_and(|until| until > now) {
        let taken = row
            .lease_taken_at
            .map(|at| format!(" for {}", duration(between(at, now))))
            .unwrap_or_default();
        return format!("step in hand{taken}, attempt {}", row.attempts);
    }
    match (&row.waiting_for, &row.last_error) {
        (Some(waiting_for), _) => format!("waiting for {waiting_for}"),
        (None, Some(error)) => format!("attempt {} failed: {error}", row.attempts),
        (None, None) if row.state.is_working() => "due".into(),
        (None, None) => String::new(),
    }
}

pub(crate) async fn list(connections: &Connections, output: &Output, args: List) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let filter = Filter {
        states: args.state,
        owner_id: args.owner,
        faulty: args.faulty,
        held: args.held,
        names: Vec::new(),
        limit: args.limit,
    };
    let rows = repository.gatewayds(&filter).await?;
    crate::halts::warn(&repository).await?;
    if output.json {
        return output.json(&rows.iter().map(|row| Value::Object(columns(row))).collect());
    }
    if rows.is_empty() {
        return output.text("no gatewayds\n");
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let or_dash = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
            vec![
                row.name.clone(),
                row.state.to_string(),
                relative(row.since, row.read_at),
                or_dash(row.release_in_place.as_ref().or(row.release.as_ref())),
                or_dash(row.public_address.as_ref().or(row.private_address.as_ref())),
                note(row),
            ]
        })
        .collect();
    output.text(&text::table(
        &[
            "NAME",
            "STATE",
            "SINCE",
            "RELEASE",
            "ADDRESS",
            "FAULT OR PROGRESS",
        ],
        &cells,
        output.width,
    ))
}

pub(crate) async fn show(connections: &Connections, output: &Output, name: &str) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let row = repository
        .gatewayd_named(name)
        .await?
        .ok_or_else(|| Failure::no_such_name(name))?;
    let history = repository.history(row.id).await?;
    let surroundings = repository.surroundings(row.id).await?;
    if output.json {
        let mut fields = columns(&row);
        if let Some(Surroundings {
            due_at,
            changed_by,
            changed_why,
        }) = surroundings
        {
            fields.insert("due_at".into(), json!(due_at.map(rfc3339)));
            fields.insert("changed_by".into(), json!(changed_by));
            fields.insert("changed_why".into(), json!(changed_why));
        }
        fields.insert("history".into(), history.iter().map(entry_json).collect());
        return output.json(&Value::Object(fields));
    }
    let mut text = text::paragraphs(&pairs(&row, surroundings.as_ref()), output.width);
    text.push_str("\nHistory\n");
    let lines: Vec<(String, String)> = history
        .iter()
        .map(|entry| (text::absolute(entry.at), entry_text(entry, None)))
        .collect();
    text.push_str(&text::paragraphs(&lines, output.width));
    output.text(&text)
}

fn pairs(row: &Gatewayd, surroundings: Option<&Surroundings>) -> Vec<(String, String)> {
    let now = row.read_at;
    let time = |when: Option<OffsetDateTime>| when.map(|when| moment(when, now));
    let changed_by = surroundings.and_then(|s| s.changed_by.clone());
    let changed_why = surroundings.and_then(|s| s.changed_why.clone());
    let all = [
        ("name", Some(row.name.clone())),
        ("id", Some(row.id.to_string())),
        ("state", Some(row.state.to_string())),
        ("since", time(Some(row.since))),
        ("changed by", changed_by),
        ("changed why", changed_why),
        ("fault", row.fault.clone()),
        ("unblock", row.unblock.clone()),
        ("hold", row.hold.clone()),
        ("held since", time(row.held_since)),
        ("attempts", Some(row.attempts.to_string())),
        ("next try", time(row.next_try_at)),
        ("waiting for", row.waiting_for.clone()),
        ("last error", row.last_error.clone()),
        ("last error at", time(row.last_error_at)),
        (
            "lease number",
            (row.lease_number > 0).then(|| row.lease_number.to_string()),
        ),
        ("lease owner", row.lease_owner.clone()),
        ("lease taken", time(row.lease_taken_at)),
        ("lease until", time(row.lease_until)),
        ("looked at again", time(surroundings.and_then(|s| s.due_at))),
        ("release wanted", row.release.clone()),
        ("release in place", row.release_in_place.clone()),
        ("commit in place", row.commit_in_place.clone()),
        ("instance", row.instance_id.clone()),
        ("public address", row.public_address.clone()),
        ("private address", row.private_address.clone()),
        ("host key", row.host_key_fingerprint.clone()),
        ("certificate", row.tls_fingerprint.clone()),
        ("wallet", row.ripple_address.clone()),
        ("ami wanted", row.ami.clone()),
        ("type wanted", row.instance_type.clone()),
        ("owner", row.owner_id.clone()),
        ("generation", Some(row.generation.to_string())),
        ("clock started", time(Some(row.clock_started_at))),
        ("traceparent", row.traceparent.clone()),
        ("created", time(Some(row.created_at))),
    ];
    all.into_iter()
        .map(|(label, text)| {
            (
                label.to_owned(),
                text.filter(|t| !t.is_empty()).unwrap_or_else(|| "-".into()),
            )
        })
        .collect()
}

/// One entry of a history, without its time; `spent`: how long the row was in the state that it left.
pub(crate) fn entry_text(entry: &HistoryEntry, spent: Option<Duration>) -> String {
    let what = match (entry.event.as_str(), &entry.from_state) {
        ("moved", Some(from)) => format!("{from} → {}", entry.to_state),
        ("faulted", _) => format!("fault in {}", entry.to_state),
        ("created", _) => format!("created in {}", entry.to_state),
        (event, _) => format!("{event} in {}", entry.to_state),
    };
    let spent = spent
        .map(|spent| format!(" after {}", duration(spent)))
        .unwrap_or_default();
    let why = entry
        .why
        .as_ref()
        .map(|why| format!(": {why}"))
        .unwrap_or_default();
    format!("{what}{spent}{why} (by {})", entry.by)
}

pub(crate) fn entry_json(entry: &HistoryEntry) -> Value {
    json!({
        "at": rfc3339(entry.at),
        "event": entry.event,
        "from_state": entry.from_state,
        "to_state": entry.to_state,
        "generation": entry.generation,
        "by": entry.by,
        "why": entry.why,
    })
}

//! `gatewayzen watch`: walks as they happen.

mod screen;
mod tracker;

use std::time::Duration;

use gatewayzen_core::repository::{Filter, Halt};
use gatewayzen_core::{Gatewayd, Repository};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::args::Watch;
use crate::connect::Connections;
use crate::failure::{Ended, Failure};
use crate::halts;
use crate::output::Output;
use crate::rows::{columns, entry_json, entry_text, note};
use crate::text::{clean, clock, count, duration, rfc3339};
use screen::Screen;
use tracker::{Change, Tracker};

/// How often the rows are read. One query for all of them.
const PERIOD: Duration = Duration::from_millis(500);

pub(crate) async fn watch(connections: &Connections, output: &Output, args: Watch) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let filter = Filter {
        names: args.name.clone(),
        ..Filter::default()
    };
    let mut rows = repository.gatewayds(&filter).await?;
    let mut halt = repository.halt().await?;
    if let Some(missing) = args
        .name
        .iter()
        .find(|name| !rows.iter().any(|row| row.name == **name))
    {
        return Err(Failure::no_such_name(missing));
    }
    let begun = Instant::now();
    let mut tracker = Tracker::new(!args.name.is_empty());
    let mut screen = (output.terminal && !output.json).then(Screen::default);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut outage = false;
    let mut told = None;
    let ended = loop {
        if screen.is_none() {
            tell_halt(halt.as_ref(), &mut told);
        }
        let changes = tracker.update(&repository, rows.clone()).await;
        match (&mut screen, changes) {
            (_, Err(error)) if error.is_outage() => {}
            (_, Err(error)) => return Err(error.into()),
            (Some(screen), Ok(_)) => screen.draw(output, &tracker, halt.as_ref(), begun.elapsed())?,
            (None, Ok(changes)) => say(output, &changes)?,
        }
        if !args.for_ever && tracker.rows().all(settled) {
            break if tracker.rows().all(arrived) {
                None
            } else {
                Some(Ended::Fault)
            };
        }
        let limit = args
            .timeout
            .map_or(Duration::MAX, |timeout| timeout.saturating_sub(begun.elapsed()));
        if limit.is_zero() {
            break Some(Ended::Timeout);
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD.min(limit)) => {}
            _ = &mut interrupted => break Some(Ended::Interrupted),
        }
        rows = read(&repository, &filter, rows, &mut outage).await?;
        // In an outage the last known one stays, as the rows do.
        halt = repository.halt().await.unwrap_or(halt);
    };
    if let (None, false) = (&screen, output.json) {
        output.text(&format!("{}\n", summary(&tracker, begun.elapsed())))?;
    }
    match ended {
        None => Ok(()),
        Some(Ended::Timeout) => {
            let walking: Vec<&str> = tracker
                .rows()
                .filter(|row| !settled(row))
                .map(|row| row.name.as_str())
                .collect();
            let some = walking.iter().take(5).copied().collect::<Vec<_>>().join(", ");
            eprintln!(
                "gatewayzen: timeout after {}; still walking: {some}{}; see `gatewayzen why {}`",
                duration(begun.elapsed()),
                if walking.len() > 5 { ", …" } else { "" },
                walking.first().copied().unwrap_or("NAME")
            );
            Err(Failure::Said(Ended::Timeout))
        }
        Some(ended) => Err(Failure::Said(ended)),
    }
}

/// Says on standard error that the fleet was halted, or goes on: once for each halt.
fn tell_halt(halt: Option<&Halt>, told: &mut Option<Halt>) {
    if halt != told.as_ref() {
        match halt {
            Some(halt) => {
                let sentence = halts::sentence(halt, OffsetDateTime::now_utc());
                eprintln!("gatewayzen: {}. {}", clean(&sentence), halts::UNBLOCK);
            }
            None => eprintln!("gatewayzen: the fleet goes on"),
        }
        *told = halt.cloned();
    }
}

/// The rows now; the last known ones while Postgres is away, which is said once.
async fn read(
    repository: &Repository,
    filter: &Filter,
    last: Vec<Gatewayd>,
    outage: &mut bool,
) -> Result<Vec<Gatewayd>, Failure> {
    match repository.gatewayds(filter).await {
        Ok(rows) => {
            *outage = false;
            Ok(rows)
        }
        Err(error) if error.is_outage() => {
            if !std::mem::replace(outage, true) {
                eprintln!("gatewayzen: {error}; watching goes on when Postgres is back");
            }
            Ok(last)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a row goes nowhere by itself any more.
fn settled(row: &Gatewayd) -> bool {
    let in_hand = row.lease_until.is_some_and(|until| until > row.read_at);
    row.fault.is_some() || !row.state.is_working() || (row.hold.is_some() && !in_hand)
}

/// Whether it got where it was to go.
fn arrived(row: &Gatewayd) -> bool {
    row.fault.is_none() && !row.state.is_working()
}

/// One line for each change.
fn say(output: &Output, changes: &[Change]) -> Result<(), Failure> {
    for change in changes {
        let text = match (change, output.json) {
            (Change::Seen(row) | Change::Progress(row), true) => {
                let mut fields = columns(row);
                let event = if matches!(change, Change::Seen(_)) {
                    "seen"
                } else {
                    "progress"
                };
                fields.insert("event".into(), json!(event));
                fields.insert("at".into(), json!(rfc3339(row.read_at)));
                serde_json::Value::Object(fields).to_string()
            }
            (
                Change::Event {
                    id,
                    name,
                    entry,
                    spent,
                },
                true,
            ) => {
                let mut fields = entry_json(entry);
                fields["id"] = json!(id);
                fields["name"] = json!(name);
                fields["seconds_in_from_state"] = json!(spent.map(|spent| spent.as_secs_f64()));
                fields.to_string()
            }
            (Change::Seen(row), false) => {
                let note = Some(note(row)).filter(|note| !note.is_empty());
                let note = note.map(|note| format!(": {note}")).unwrap_or_default();
                let spent = duration(crate::text::between(row.since, row.read_at));
                format!(
                    "{}  {}  {} for {spent}{note}",
                    clock(row.read_at),
                    row.name,
                    row.state
                )
            }
            (Change::Progress(row), false) => {
                format!(
                    "{}  {}  {}: {}",
                    clock(row.read_at),
                    row.name,
                    row.state,
                    note(row)
                )
            }
            (
                Change::Event {
                    name, entry, spent, ..
                },
                false,
            ) => {
                format!("{}  {name}  {}", clock(entry.at), entry_text(entry, *spent))
            }
        };
        output.text(&format!("{}\n", if output.json { text } else { clean(&text) }))?;
    }
    Ok(())
}

/// "3 gatewayds: 2 live, 1 key; 1 with a fault; 12 s"
fn summary(tracker: &Tracker, elapsed: Duration) -> String {
    let mut states = std::collections::BTreeMap::new();
    let (mut faults, mut held, mut all) = (0, 0, 0);
    for row in tracker.rows() {
        *states.entry(row.state).or_insert(0) += 1;
        faults += usize::from(row.fault.is_some());
        held += usize::from(row.hold.is_some());
        all += 1;
    }
    let states: Vec<String> = states
        .iter()
        .map(|(state, number)| format!("{number} {state}"))
        .collect();
    let mut text = count(all, "gatewayd");
    if !states.is_empty() {
        text.push_str(&format!(": {}", states.join(", ")));
    }
    if faults > 0 {
        text.push_str(&format!("; {faults} with a fault"));
    }
    if held > 0 {
        text.push_str(&format!("; {held} on hold"));
    }
    format!("{text}; watched for {}", duration(elapsed))
}

//! `gatewayzen why`: the answer for an operator at three in the morning.

mod due;
mod explain;
mod parked;
mod queue;

use gatewayzen_core::Gatewayd;
use serde_json::{Value, json};

use crate::connect::Connections;
use crate::failure::Failure;
use crate::output::Output;
use crate::{rows, text};
pub(crate) use due::patience_with_dispatcher;
use explain::{Answer, Case, Limits, explain};
use queue::{QueueView, look};
pub(crate) use queue::{patience, process};

pub(crate) async fn why(connections: &Connections, output: &Output, name: &str) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let row = repository
        .gatewayd_named(name)
        .await?
        .ok_or_else(|| Failure::no_such_name(name))?;
    let history = repository.history(row.id).await?;
    let surroundings = repository.surroundings(row.id).await?;
    let view = match row.state.step() {
        Some(step) => look(&connections.queue()?, step, &row).await,
        None => QueueView::NotAsked,
    };
    let halt = repository.halt().await?;
    let limits = Limits::of(&connections.settings, row.state);
    let case = Case {
        row: &row,
        history: &history,
        due_at: surroundings.and_then(|s| s.due_at),
        queue: &view,
        halt: halt.as_ref(),
        limits: &limits,
    };
    let answer = explain(&case);
    if output.json {
        return output.json(&as_json(&row, &answer, &limits));
    }
    output.text(&as_text(&row, &answer, output.width))
}

fn as_text(row: &Gatewayd, answer: &Answer, width: Option<usize>) -> String {
    let headline = text::clean(&format!("{}: {}.", row.name, answer.headline));
    let headline = match width {
        Some(width) => text::wrap(&headline, width).join("\n"),
        None => headline,
    };
    let mut pairs = answer.details.clone();
    pairs.push(("unblock".to_owned(), answer.unblock.clone()));
    format!("{headline}\n\n{}", text::paragraphs(&pairs, width))
}

fn as_json(row: &Gatewayd, answer: &Answer, limits: &Limits) -> Value {
    let details: Vec<Value> = answer
        .details
        .iter()
        .map(|(label, text)| json!({ "label": label, "text": text }))
        .collect();
    let mut fields = rows::columns(row);
    // The row's own column `unblock` is there for faults and backoffs only; the answer's is for every situation.
    fields.insert("unblock".into(), json!(answer.unblock));
    fields.insert("situation".into(), json!(answer.situation));
    fields.insert("headline".into(), json!(answer.headline));
    fields.insert("details".into(), json!(details));
    fields.insert("max_attempts".into(), json!(limits.max_attempts));
    Value::Object(fields)
}

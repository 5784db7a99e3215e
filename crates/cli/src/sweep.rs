//! `gatewayzen sweep` and `gatewayzen restored`: an instance-worker does the work, since it alone has rights on EC2.

use std::time::Duration;

use gatewayzen_core::Repository;
use gatewayzen_core::repository::Sweep;
use gatewayzen_core::sweep::{Fate, LetAlone, Report};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::args::SweepArgs;
use crate::connect::Connections;
use crate::failure::{Ended, Failure, refusal};
use crate::output::Output;
use crate::text::{self, count, relative, rfc3339};

/// How long a sweep may wait for an instance-worker to take it.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);
/// How long its end is waited for.
const ENDED_WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn sweep(
    connections: &Connections,
    output: &Output,
    args: &SweepArgs,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let id = repository
        .ask_sweep(args.act, args.most, args.why.as_deref())
        .await?
        .map_err(|why| Failure::Failed(refusal(&why)))?;
    let sweep = ended(&repository, id).await?;
    if let Some(error) = &sweep.error {
        return Err(Failure::Failed(format!("sweep {id} failed: {error}")));
    }
    let Some(report) = sweep.report.as_ref().map(|report| &report.0) else {
        return Err(Failure::Failed(format!("sweep {id} left no report")));
    };
    if output.json {
        output.json(&as_json(&sweep, report))?;
    } else {
        output.text(&as_text(&sweep, report, output.width))?;
    }
    if sweep.act && (report.refusal.is_some() || report.count(Fate::Failed) > 0) {
        return Err(Failure::Said(Ended::Failed));
    }
    Ok(())
}

pub(crate) async fn restored(connections: &Connections, output: &Output, why: &str) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let (from, to) = repository
        .declare_restored(why)
        .await?
        .map_err(|why| Failure::Failed(refusal(&why)))?;
    if output.json {
        return output.json(&json!({ "from_home": from, "to_home": to }));
    }
    let moved = if from == to {
        format!("it stays at home in {to}")
    } else {
        format!("it was at home in {from}, and is now in {to}")
    };
    output.text(&format!(
        "declared: this database is the fleet's from here on; {moved}.\n\
         Machines launched before now of which it knows nothing count as orphans: look at them with `gatewayzen sweep` before \
         a sweep that acts ends them.\n"
    ))
}

/// The sweep once it is over.
async fn ended(repository: &Repository, id: i64) -> Result<Sweep, Failure> {
    let asked = Instant::now();
    loop {
        let sweep = repository
            .sweep(id)
            .await?
            .ok_or_else(|| Failure::Failed(format!("sweep {id} is gone")))?;
        if sweep.ended_at.is_some() {
            return Ok(sweep);
        }
        // What nobody waits for must not be done later: it is taken back, unless somebody takes it this very moment.
        if sweep.began_at.is_none() && asked.elapsed() > TAKEN_WITHIN && repository.withdraw_sweep(id).await?
        {
            return Err(Failure::Failed(format!(
                "no instance-worker took the sweep within {} s, so it was taken back: see that one runs (`gatewayzen doctor`), \
                 and that no other sweep is in hand (SELECT * FROM sweeps WHERE ended_at IS NULL)",
                TAKEN_WITHIN.as_secs()
            )));
        }
        if asked.elapsed() > ENDED_WITHIN {
            return Err(Failure::Failed(format!(
                "sweep {id} was begun by {} and has not ended within {} min; it goes on, and its report will be in the table \
                 sweeps",
                sweep.lease_owner.as_deref().unwrap_or("an instance-worker"),
                ENDED_WITHIN.as_secs() / 60
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn as_json(sweep: &Sweep, report: &Report) -> Value {
    json!({
        "id": sweep.id,
        "act": sweep.act,
        "asked_at": rfc3339(sweep.asked_at),
        "asked_by": sweep.asked_by,
        "done_by": sweep.lease_owner,
        "ended_at": sweep.ended_at.map(rfc3339),
        "report": report,
    })
}

fn as_text(sweep: &Sweep, report: &Report, width: Option<usize>) -> String {
    let kind = if sweep.act { "" } else { " (dry run)" };
    let mut out = format!(
        "sweep {}{kind}: {} with the fleet's tag, {} claimed; {}; {} without a machine\n",
        sweep.id,
        count(report.machines, "machine"),
        report.claimed,
        count(report.orphans.len(), "orphan"),
        count(report.gone.len(), "row"),
    );
    let now = sweep.read_at;
    let ago = |when: Option<_>| when.map_or_else(|| "-".to_owned(), |at| relative(at, now));
    let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let more = |note: &Option<String>| note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    if !report.orphans.is_empty() {
        let rows: Vec<Vec<String>> = report
            .orphans
            .iter()
            .map(|orphan| {
                vec![
                    orphan.machine.instance_id.clone(),
                    dash(&orphan.machine.name),
                    ago(orphan.machine.launched_at),
                    ago(orphan.marked_at),
                    word(orphan.fate, sweep.act).to_owned(),
                    format!("{}{}", orphan.why, more(&orphan.note)),
                ]
            })
            .collect();
        let head = ["ORPHAN", "ROW", "LAUNCHED", "MARKED", "WHAT", "WHY"];
        out.push_str(&format!("\n{}", text::table(&head, &rows, width)));
    }
    if !report.gone.is_empty() {
        let rows: Vec<Vec<String>> = report
            .gone
            .iter()
            .map(|row| {
                vec![
                    row.name.clone(),
                    row.state.clone(),
                    row.instance_id.clone(),
                    word(row.fate, sweep.act).to_owned(),
                    row.why.clone(),
                ]
            })
            .collect();
        let head = ["ROW", "STATE", "ITS MACHINE", "WHAT", "WHY"];
        out.push_str(&format!("\n{}", text::table(&head, &rows, width)));
    }
    for (title, machines) in [("LET ALONE", &report.let_alone), ("UNKNOWN", &report.unknown)] {
        out.push_str(&others(title, machines, sweep, width));
    }
    out.push_str(&verdict(sweep, report, width));
    out
}

fn others(title: &str, machines: &[LetAlone], sweep: &Sweep, width: Option<usize>) -> String {
    if machines.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|one| {
            vec![
                one.machine.instance_id.clone(),
                one.machine.name.clone().unwrap_or_else(|| "-".into()),
                one.machine
                    .launched_at
                    .map_or_else(|| "-".into(), |at| relative(at, sweep.read_at)),
                one.why.clone(),
            ]
        })
        .collect();
    format!(
        "\n{}",
        text::table(&[title, "ROW", "LAUNCHED", "WHY"], &rows, width)
    )
}

/// The last lines: what was refused, or what to do next.
fn verdict(sweep: &Sweep, report: &Report, width: Option<usize>) -> String {
    let sentence = match &report.refusal {
        Some(refusal) if sweep.act => format!("Refused: {refusal}."),
        Some(refusal) => format!("A sweep that acts would be refused: {refusal}."),
        None if report.orphans.is_empty() && report.gone.is_empty() => return String::new(),
        None if sweep.act => return String::new(),
        None => format!(
            "Nothing was done. `gatewayzen sweep --act` does it; it would end {} of at most {}.",
            report.due, report.most
        ),
    };
    let sentence = text::clean(&sentence);
    let lines = match width {
        Some(width) => text::wrap(&sentence, width).join("\n"),
        None => sentence,
    };
    format!("\n{lines}\n")
}

fn word(fate: Fate, act: bool) -> &'static str {
    match (fate, act) {
        (Fate::Marked, true) => "marked",
        (Fate::Marked, false) => "would be marked",
        (Fate::Waits, _) => "waits",
        (Fate::Ended, true) => "ended",
        (Fate::Ended, false) => "would be ended",
        (Fate::Parked, true) => "parked",
        (Fate::Parked, false) => "would be parked",
        (Fate::OverTheCap, _) => "too many at once",
        (Fate::Refused, _) => "refused",
        (Fate::Spared, _) => "let alone",
        (Fate::Failed, _) => "failed",
    }
}

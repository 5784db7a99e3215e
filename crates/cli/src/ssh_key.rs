//! `gatewayzen ssh-key`: the fleet goes over to its next SSH key. An ssh-worker does the work, since it alone has the keys.

use std::time::Duration;

use gatewayzen_core::Repository;
use gatewayzen_core::repository::SshKeyRun;
use gatewayzen_core::ssh_key::{Act, Fate, Report};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::args::SshKey;
use crate::connect::Connections;
use crate::failure::{Ended, Failure, refusal};
use crate::identity::person;
use crate::output::Output;
use crate::text::{self, count, moment, rfc3339};

/// How long a run may wait for an ssh-worker to take it.
const TAKEN_WITHIN: Duration = Duration::from_secs(15);
/// How long its end is waited for.
const ENDED_WITHIN: Duration = Duration::from_secs(3600);
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn ssh_key(connections: &Connections, output: &Output, act: SshKey) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    match act {
        SshKey::Rotate { reason } => run(&repository, output, Act::Rotate, &reason).await,
        SshKey::Retire { reason } => run(&repository, output, Act::Retire, &reason).await,
        SshKey::Status => status(&repository, output).await,
    }
}

async fn run(repository: &Repository, output: &Output, act: Act, reason: &str) -> Result<(), Failure> {
    let id = repository
        .ask_ssh_key_run(act, person().as_deref(), reason)
        .await?
        .map_err(|why| Failure::Failed(refusal(&why)))?;
    let run = ended(repository, id).await?;
    if let Some(error) = &run.error {
        return Err(Failure::Failed(format!(
            "the {} was not done: {error}",
            act.name()
        )));
    }
    let Some(report) = run.report.as_ref().map(|report| &report.0) else {
        return Err(Failure::Failed(format!("run {id} left no report")));
    };
    if output.json {
        output.json(&json!({ "id": run.id, "act": act, "done_by": run.lease_owner, "report": report }))?;
    } else {
        output.text(&as_text(act, report, output.width))?;
    }
    if report.count(Fate::Done) < report.hosts.len() {
        return Err(Failure::Said(Ended::Failed));
    }
    Ok(())
}

/// The run once it is over.
async fn ended(repository: &Repository, id: i64) -> Result<SshKeyRun, Failure> {
    let asked = Instant::now();
    loop {
        let run = repository
            .ssh_key_run(id)
            .await?
            .ok_or_else(|| Failure::Failed(format!("run {id} is gone")))?;
        if run.ended_at.is_some() {
            return Ok(run);
        }
        // What nobody waits for must not be done later: it is taken back, unless somebody takes it this very moment.
        if run.began_at.is_none()
            && asked.elapsed() > TAKEN_WITHIN
            && repository.withdraw_ssh_key_run(id).await?
        {
            return Err(Failure::Failed(format!(
                "no ssh-worker took it within {} s, so it was taken back: see that one runs (`gatewayzen doctor`), and that no other \
                 run is in hand (SELECT * FROM ssh_key_runs WHERE ended_at IS NULL)",
                TAKEN_WITHIN.as_secs()
            )));
        }
        if asked.elapsed() > ENDED_WITHIN {
            return Err(Failure::Failed(format!(
                "run {id} was begun by {} and has not ended within {} min; it goes on, and `gatewayzen ssh-key status` shows how far it is",
                run.lease_owner.as_deref().unwrap_or("an ssh-worker"),
                ENDED_WITHIN.as_secs() / 60
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn as_text(act: Act, report: &Report, width: Option<usize>) -> String {
    let done = report.count(Fate::Done);
    let what = match act {
        Act::Rotate => format!("let the new key {} in", report.new_key),
        Act::Retire => format!("let the old key {} in no more", report.old_key),
    };
    let mut out = format!("{done} of {} {what}\n", count(report.hosts.len(), "host"));
    let others: Vec<Vec<String>> = report
        .hosts
        .iter()
        .filter(|host| host.fate != Fate::Done)
        .map(|host| {
            vec![
                host.name.clone(),
                host.state.clone(),
                word(host.fate).to_owned(),
                host.why.clone(),
            ]
        })
        .collect();
    if !others.is_empty() {
        out.push_str(&format!(
            "\n{}",
            text::table(&["HOST", "STATE", "WHAT", "WHY"], &others, width)
        ));
        out.push_str(&format!(
            "\nMend what keeps these, then run `gatewayzen ssh-key {} --reason …` again; it goes on where it ended.\n",
            act.name()
        ));
        return out;
    }
    out.push_str(match act {
        Act::Rotate => "Then `gatewayzen ssh-key retire --reason …` has no host let the old key in any more.\n",
        Act::Retire => {
            "Then make the new key ssh.key_file, empty ssh.next_key_file, and set ec2.key_name to its key pair; restart the workers.\n"
        }
    });
    out
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Done => "done",
        Fate::Held => "on hold",
        Fate::BeingBuilt => "being built",
        Fate::Busy => "busy",
        Fate::Failed => "failed",
    }
}

/// What a host lets in, in a word.
fn standing(lets_in: &[String], run: Option<&SshKeyRun>) -> &'static str {
    let has = |key: Option<&String>| key.is_some_and(|key| lets_in.contains(key));
    let (old, new) = run.map_or((false, false), |run| {
        (has(run.old_key.as_ref()), has(run.new_key.as_ref()))
    });
    match (old, new) {
        (true, true) => "both",
        (false, true) => "new",
        (true, false) => "old",
        (false, false) if lets_in.is_empty() => "not seen yet",
        // Before the first rotation there is nothing to tell it from.
        (false, false) if run.is_none() => "seen",
        (false, false) => "another",
    }
}

async fn status(repository: &Repository, output: &Output) -> Result<(), Failure> {
    let run = repository.last_ssh_key_run().await?;
    let hosts = repository.keyed_hosts().await?;
    let run = run.as_ref();
    if output.json {
        let hosts: Vec<_> = hosts
            .iter()
            .map(|host| {
                json!({
                    "name": host.name,
                    "state": host.state,
                    "hold": host.hold,
                    "lets_in": host.lets_in,
                    "standing": standing(&host.lets_in, run),
                    "seen_at": host.seen_at.map(rfc3339),
                })
            })
            .collect();
        return output.json(&json!({
            "old_key": run.and_then(|run| run.old_key.as_ref()),
            "new_key": run.and_then(|run| run.new_key.as_ref()),
            "hosts": hosts,
        }));
    }
    let now = OffsetDateTime::now_utc();
    let mut out = match run {
        None => "the fleet's SSH key was never rotated\n".to_owned(),
        Some(run) => format!(
            "the last {} {}: old key {}, new key {}\n",
            run.act,
            run.ended_at.map_or_else(
                || "is under way".to_owned(),
                |at| format!("ended {}", moment(at, now))
            ),
            run.old_key.as_deref().unwrap_or("-"),
            run.new_key.as_deref().unwrap_or("-")
        ),
    };
    let rows: Vec<Vec<String>> = hosts
        .iter()
        .map(|host| {
            let seen = host.seen_at.map_or_else(|| "-".to_owned(), |at| moment(at, now));
            let lets_in = if host.lets_in.is_empty() {
                "-".to_owned()
            } else {
                host.lets_in.join(", ")
            };
            let standing = standing(&host.lets_in, run).to_owned();
            vec![host.name.clone(), host.state.clone(), standing, seen, lets_in]
        })
        .collect();
    if !rows.is_empty() {
        let head = ["HOST", "STATE", "LETS IN", "LAST SEEN", "KEYS"];
        out.push_str(&format!("\n{}", text::table(&head, &rows, output.width)));
    }
    output.text(&out)
}

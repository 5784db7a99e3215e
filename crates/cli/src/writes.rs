//! Commands that write: each does what an external application does by SQL.

use gatewayzen_core::repository::{ALL_ROLES, Move as Written};
use gatewayzen_core::{Gatewayd, JobArgs, Repository, Step};
use serde_json::{Value, json};

use crate::args::{Create, Move};
use crate::connect::Connections;
use crate::failure::{Ended, Failure, refusal};
use crate::output::Output;
use crate::rows::{columns, note};

pub(crate) async fn migrate(
    connections: &Connections,
    output: &Output,
    only_roles: bool,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    if only_roles {
        repository.prepare_roles().await?;
        if output.json {
            return output.json(&json!({ "roles": ALL_ROLES }));
        }
        return output.text(&format!(
            "the roles are there ({}), and the schema is gatewayzen_migrator's; run `gatewayzen migrate` as that role\n",
            ALL_ROLES.join(", ")
        ));
    }
    let migrations = repository.migrate().await?;
    let fleet = repository.fleet_id().await?;
    if output.json {
        return output.json(&json!({ "migrations": migrations, "fleet_id": fleet.to_string() }));
    }
    output.text(&format!(
        "the schema is up to date: {migrations} migrations; this fleet is {fleet}\n"
    ))
}

pub(crate) async fn create(connections: &Connections, output: &Output, args: &Create) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let mut made = Vec::new();
    let mut refused = false;
    for name in &args.name {
        let created = repository
            .create(
                name,
                args.release.as_deref(),
                args.ami.as_deref(),
                args.instance_type.as_deref(),
                args.owner.as_deref(),
            )
            .await?;
        match created {
            Ok(id) => made.push((id, name)),
            Err(why) => {
                refused = true;
                eprintln!("gatewayzen: \"{name}\" was not created: {}", refusal(&why));
            }
        }
    }
    if output.json {
        output.json(
            &made
                .iter()
                .map(|(id, name)| json!({ "id": id, "name": name, "state": "new" }))
                .collect(),
        )?;
    } else {
        for (id, name) in &made {
            output.text(&format!("created {name} in state new (id {id})\n"))?;
        }
        if let ([(_, name)], false) = (made.as_slice(), refused) {
            output.text(&format!("`gatewayzen move {name} instance` builds it\n"))?;
        }
    }
    if refused {
        Err(Failure::Said(Ended::Failed))
    } else {
        Ok(())
    }
}

pub(crate) async fn write_state(
    connections: &Connections,
    output: &Output,
    args: &Move,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let before = named(&repository, &args.name).await?;
    let written = repository
        .write_state(
            &args.name,
            args.state,
            args.release.as_deref(),
            args.why.as_deref(),
        )
        .await?;
    let after = result(&repository, &args.name, written).await?;
    let sentence = if after.generation == before.generation {
        format!(
            "{} is in state {} already, and has nothing to retry",
            after.name, after.state
        )
    } else if before.state == after.state {
        tried_again(&after)
    } else {
        format!(
            "{}: {} → {}; `gatewayzen watch {}` shows its walk",
            after.name, before.state, args.state, after.name
        )
    };
    told(output, &before, &after, &sentence)
}

pub(crate) async fn retry(
    connections: &Connections,
    output: &Output,
    names: &[String],
    why: Option<&str>,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let mut results = Vec::new();
    let mut failed = false;
    for name in names {
        let one = async {
            let before = named(&repository, name).await?;
            let written = repository.retry(name, why).await?;
            Ok::<_, Failure>((before, result(&repository, name, written).await?))
        };
        match one.await {
            Ok((before, after)) => {
                let changed = after.generation != before.generation;
                if output.json {
                    results.push(changed_json(&after, changed));
                } else if changed {
                    output.text(&format!("{}\n", tried_again(&after)))?;
                } else {
                    let note = Some(note(&after)).filter(|note| !note.is_empty());
                    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
                    output.text(&format!(
                        "{name} in state {} has nothing to retry{note}\n",
                        after.state
                    ))?;
                }
            }
            Err(Failure::Failed(sentence)) => {
                failed = true;
                eprintln!("gatewayzen: {sentence}");
            }
            Err(other) => return Err(other),
        }
    }
    if output.json {
        output.json(&Value::Array(results))?;
    }
    if failed {
        Err(Failure::Said(Ended::Failed))
    } else {
        Ok(())
    }
}

pub(crate) async fn hold(
    connections: &Connections,
    output: &Output,
    name: &str,
    reason: Option<&str>,
) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let before = named(&repository, name).await?;
    let written = repository.hold(name, reason).await?;
    let after = result(&repository, name, written).await?;
    let in_hand = after.lease_until.is_some_and(|until| until > after.read_at);
    let sentence = match (reason, &before.hold) {
        (Some(_), _) if in_hand => format!(
            "{name} is on hold in state {}; its step in hand ends first",
            after.state
        ),
        (Some(_), _) => format!("{name} is on hold in state {}", after.state),
        (None, None) => format!("{name} was not on hold"),
        (None, Some(_)) => format!("{name} goes on in state {}", after.state),
    };
    told(output, &before, &after, &sentence)
}

pub(crate) async fn enqueue(
    connections: &Connections,
    output: &Output,
    step: Step,
    id: i64,
) -> Result<(), Failure> {
    let queue = connections.queue()?;
    let args = JobArgs {
        id,
        generation: None,
        traceparent: None,
    };
    queue.push(step.queue(), &args.payload(step)).await?;
    let waiting = queue.len(step.queue()).await?;
    if output.json {
        return output.json(&json!({ "queue": step.queue(), "id": id, "waiting": waiting }));
    }
    let job = args.payload(step);
    output.text(&format!(
        "pushed {}; {waiting} waiting in the queue {}\n",
        String::from_utf8_lossy(&job),
        step.queue()
    ))?;
    // A worker says nothing to a job for which its row has no use: say it here.
    if let Ok(repository) = connections.repository().await {
        match repository.gatewayd(id).await? {
            None => output.text(&format!(
                "no gatewayd has the id {id}: the job will change nothing\n"
            ))?,
            Some(row) if row.state != step.state() => output.text(&format!(
                "gatewayd {} is in state {}, and this job is for state {}: it will change nothing\n",
                row.name,
                row.state,
                step.state()
            ))?,
            Some(_) => {}
        }
    }
    Ok(())
}

/// An idle row, which only a sweep parks, has no step to try again.
fn tried_again(row: &Gatewayd) -> String {
    if row.state.is_working() {
        format!("{} is tried again in state {}", row.name, row.state)
    } else {
        format!(
            "the fault of {} is cleared; it stays in state {}",
            row.name, row.state
        )
    }
}

pub(crate) async fn named(repository: &Repository, name: &str) -> Result<Gatewayd, Failure> {
    repository
        .gatewayd_named(name)
        .await?
        .ok_or_else(|| Failure::no_such_name(name))
}

/// The row after a write, or why there was none.
pub(crate) async fn result(
    repository: &Repository,
    name: &str,
    written: Written,
) -> Result<Gatewayd, Failure> {
    match written {
        Written::Done => named(repository, name).await,
        Written::NoSuchName => Err(Failure::no_such_name(name)),
        Written::Refused(why) => Err(Failure::Failed(refusal(&why))),
    }
}

pub(crate) fn told(
    output: &Output,
    before: &Gatewayd,
    after: &Gatewayd,
    sentence: &str,
) -> Result<(), Failure> {
    if output.json {
        let changed = before.generation != after.generation || before.hold != after.hold;
        return output.json(&changed_json(after, changed));
    }
    output.text(&format!("{sentence}\n"))
}

fn changed_json(row: &Gatewayd, changed: bool) -> Value {
    let mut fields = columns(row);
    fields.insert("changed".into(), json!(changed));
    Value::Object(fields)
}

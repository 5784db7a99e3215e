//! The halt of the whole fleet: made, ended, and told by every command that shows rows which wait for its end.

use gatewayzen_core::Repository;
use gatewayzen_core::repository::Halt;
use serde_json::json;
use time::OffsetDateTime;

use crate::connect::Connections;
use crate::failure::{Failure, refusal};
use crate::output::Output;
use crate::text::{clean, moment, rfc3339};

/// What ends a halt, as an instruction.
pub(crate) const UNBLOCK: &str = "See what the faults have in common (`gatewayzen list --faulty`) and mend it; then `gatewayzen resume --fleet --why \"what \
     was mended\"`. The rows with a fault still want a retry each.";

/// "the fleet is halted since … by …: …"
pub(crate) fn sentence(halt: &Halt, now: OffsetDateTime) -> String {
    format!(
        "the fleet is halted since {}, by {}: {}",
        moment(halt.halted_at, now),
        halt.halted_by,
        halt.why
    )
}

/// Says on standard error that the fleet is halted, if it is: standard output is for rows.
pub(crate) async fn warn(repository: &Repository) -> Result<(), Failure> {
    if let Some(halt) = repository.halt().await? {
        let now = OffsetDateTime::now_utc();
        eprintln!("gatewayzen: {}. {UNBLOCK}", clean(&sentence(&halt, now)));
    }
    Ok(())
}

pub(crate) async fn halt(connections: &Connections, output: &Output, why: &str) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let changed = repository
        .halt_fleet(why)
        .await?
        .map_err(|refused| Failure::Failed(refusal(&refused)))?;
    let text = if changed {
        "the fleet is halted: steps in hand end, and none begins but those of stop and terminate; \
         `gatewayzen resume --fleet --why …` ends it"
    } else {
        "the fleet was halted already, and stays so for the former reason"
    };
    told(&repository, output, changed, text).await
}

pub(crate) async fn resume(connections: &Connections, output: &Output, why: &str) -> Result<(), Failure> {
    let repository = connections.repository().await?;
    let changed = repository
        .resume_fleet(why)
        .await?
        .map_err(|refused| Failure::Failed(refusal(&refused)))?;
    let text = if changed {
        "the fleet goes on; `gatewayzen list --faulty` names the rows that still want a retry"
    } else {
        "the fleet was not halted"
    };
    told(&repository, output, changed, text).await
}

async fn told(repository: &Repository, output: &Output, changed: bool, text: &str) -> Result<(), Failure> {
    if output.json {
        let halt = repository.halt().await?;
        return output.json(&json!({ "changed": changed, "halt": halt.as_ref().map(as_json) }));
    }
    output.text(&format!("{text}\n"))
}

/// The columns of the table `fleet_halts` that are set while a halt is in force.
pub(crate) fn as_json(halt: &Halt) -> serde_json::Value {
    json!({ "halted_at": rfc3339(halt.halted_at), "halted_by": halt.halted_by, "why": halt.why })
}

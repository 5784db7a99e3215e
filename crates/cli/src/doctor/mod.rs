//! `gatewayzen doctor`: everything that GatewayZen needs, looked at from here.

mod keys;
mod servers;

use std::path::Path;

use serde_json::json;

use crate::connect::Connections;
use crate::failure::{Ended, Failure};
use crate::output::Output;
use crate::text::{clean, count, wrap};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// Worth knowing, and fine.
    Note,
    Warn,
    Fail,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Note => "note",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
struct Check {
    status: Status,
    what: String,
    found: String,
    /// What mends it; empty where nothing need be mended.
    mend: String,
}

#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(&mut self, status: Status, what: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Check {
            status,
            what: what.to_owned(),
            found: found.into(),
            mend: mend.into(),
        });
    }

    fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(Status::Ok, what, found, "");
    }
}

pub(crate) async fn doctor(
    connections: &Connections,
    output: &Output,
    config: Option<&Path>,
) -> Result<(), Failure> {
    let mut checks = Checks::default();
    servers::postgres(&mut checks, connections).await;
    servers::redis(&mut checks, connections).await;
    keys::sealing_keys(&mut checks, connections);
    keys::wallet_keys(&mut checks, connections);
    keys::wallet_copies(&mut checks, connections);
    keys::ssh_key(&mut checks, connections);
    keys::ec2(&mut checks, connections, config).await;
    let failed = checks
        .0
        .iter()
        .filter(|check| check.status == Status::Fail)
        .count();
    let warned = checks
        .0
        .iter()
        .filter(|check| check.status == Status::Warn)
        .count();
    if output.json {
        let all = checks.0.iter().map(|check| {
            json!({ "check": check.what, "status": check.status.name(), "found": check.found, "mend": check.mend })
        });
        output.json(&all.collect())?;
    } else {
        output.text(&as_text(&checks, output))?;
        let verdict = match (failed, warned) {
            (0, 0) => "nothing is wrong".to_owned(),
            (0, _) => format!("nothing failed; {}", count(warned, "warning")),
            _ => format!("{} failed; {}", count(failed, "check"), count(warned, "warning")),
        };
        output.text(&format!("\n{verdict}\n"))?;
    }
    if failed > 0 {
        Err(Failure::Said(Ended::Failed))
    } else {
        Ok(())
    }
}

fn as_text(checks: &Checks, output: &Output) -> String {
    let labels = checks
        .0
        .iter()
        .map(|check| check.what.chars().count())
        .max()
        .unwrap_or(0);
    let margin = 6 + labels + 2;
    let mut text = String::new();
    for check in &checks.0 {
        let colour = match check.status {
            Status::Ok => "32",
            Status::Note => "2",
            Status::Warn => "33",
            Status::Fail => "31",
        };
        let status = output.paint(colour, &format!("{:<6}", check.status.name()));
        let mut lines = Vec::new();
        for part in [check.found.clone(), check.mend.clone()] {
            let part = clean(&part);
            match output.width {
                Some(width) => lines.extend(wrap(&part, width.saturating_sub(margin).max(30))),
                None if part.is_empty() => {}
                None => lines.push(part),
            }
        }
        for (number, line) in lines.iter().enumerate() {
            if number == 0 {
                text.push_str(&format!("{status}{:<labels$}  {line}\n", check.what));
            } else {
                text.push_str(&format!("{:margin$}{line}\n", ""));
            }
        }
    }
    text
}

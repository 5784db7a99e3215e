//! `stopGatewayd`: stop it, see that it is down, and back up what is on the host.

use std::time::Duration;

use gatewayzen_core::{Facts, Next, StepError};
use gatewayzen_worker::StepContext;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::command::End;
use crate::host::{Halt, Host, Step};
use crate::parse;
use crate::remote::Command;
use crate::steps::SshSteps;

/// How soon the host is asked again whether everything has ended.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a port that answers nothing is asked.
const PORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn stop(steps: &SshSteps, context: &StepContext) -> Step {
    let host = Host::reach(steps, context, false).await?;
    let before = pids(&host).await?;
    down(&host).await?;
    let backup = backup(&host, context).await?;
    host.session.close().await;
    let mut done = match before.len() {
        0 => "nothing of gatewayd ran; its port is closed".to_owned(),
        count => format!("gatewayd's {count} processes ended; its port is closed"),
    };
    done.push_str(&backup);
    Ok(Next::Advance {
        facts: Facts::default(),
        done,
    })
}

/// Has the host back up what ends with it, now that nothing writes to it any more, and records that; the end of a sentence on
/// it. A death in between makes the next try back up again.
async fn backup(host: &Host<'_>, context: &StepContext) -> Result<String, Halt> {
    let settings = &host.steps.gatewayd;
    if settings.backup_command.trim().is_empty() {
        return Ok(String::new());
    }
    let output = host.must(Command::Backup, settings.backup_timeout).await?;
    let place = parse::place(&output.stdout);
    context
        .repository
        .record_host_backup(&context.lease, place.as_deref())
        .await?
        .or_overtaken()?;
    Ok(match place {
        Some(place) => format!("; its host was backed up to {place}"),
        None => "; its host was backed up".to_owned(),
    })
}

/// The ids of gatewayd's processes.
pub(crate) async fn pids(host: &Host<'_>) -> Result<Vec<u32>, Halt> {
    let output = host.ask(Command::Processes).await?;
    parse::pids(&output.stdout).map_err(|not| {
        let why = format!("printed {not} where a process id was expected");
        host.strange(Command::Processes, why, &output).into()
    })
}

/// Stops everything of gatewayd and waits until no process and no open port is left.
pub(crate) async fn down(host: &Host<'_>) -> Result<(), Halt> {
    let settings = &host.steps.gatewayd;
    let (address, port) = (host.session.address(), settings.https_port);
    let time = settings.stop_timeout;
    // How it ends is only told: some releases stop and never come back, or come back and have not stopped.
    let output = host
        .run(Command::Stop, time.min(settings.command_timeout))
        .await?;
    let deadline = Instant::now() + time;
    loop {
        let left = pids(host).await?;
        let open = matches!(
            timeout(PORT_TIMEOUT, TcpStream::connect((address, port))).await,
            Ok(Ok(_))
        );
        if left.is_empty() && !open {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(still_up(host, &left, open, &output.end).into());
        }
        sleep(AGAIN).await;
    }
}

fn still_up(host: &Host<'_>, left: &[u32], open: bool, end: &End) -> StepError {
    let settings = &host.steps.gatewayd;
    let (address, port) = (host.session.address(), settings.https_port);
    let seconds = settings.stop_timeout.as_secs_f64();
    let ids: Vec<String> = left.iter().take(20).map(u32::to_string).collect();
    let what = match (left.is_empty(), open) {
        (false, true) => format!(
            "{} processes are left ({}), and port {port} is open",
            left.len(),
            ids.join(", ")
        ),
        (false, false) => format!("{} processes are left ({})", left.len(), ids.join(", ")),
        (true, _) => format!("port {port} is open, though `processes` lists none of gatewayd's"),
    };
    StepError::transient(
        format!(
            "gatewayd on host {address} is not down {seconds} s after `stop` (which ended with {end}): {what}"
        ),
        "Log in and end what is left, or mend the settings gatewayd.commands.stop and processes.",
    )
}

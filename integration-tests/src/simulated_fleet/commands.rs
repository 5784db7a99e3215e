//! The remote commands: what each does to the host and prints.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use super::faults::FaultKind;
use super::gatewayd;
use super::host::Host;
use super::ledger::Event;
use super::{Shared, lock};

/// What a command printed and how it ended.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) exit: u32,
}

impl Outcome {
    fn printed(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }

    pub(super) fn failed(exit: u32, stderr: impl Into<String>) -> Self {
        Self {
            stderr: stderr.into(),
            exit,
            ..Self::default()
        }
    }
}

/// The value that a command line assigns to a variable, without its quotes.
pub(super) fn variable(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    let value = match rest.chars().next()? {
        quote @ ('\'' | '"') => rest[1..].split(quote).next(),
        _ => rest
            .split(|c: char| c.is_whitespace() || matches!(c, ';' | '\'' | '"'))
            .next(),
    };
    value.map(str::to_owned)
}

/// The commit of a release tag, 40 hex digits.
#[must_use]
pub fn commit_of(release: &str) -> String {
    hex::encode(&Sha256::digest(release)[..20])
}

/// The commands that write to the host's disk.
const WRITE: [&str; 8] = [
    "get_key", "tls", "start", "fetch", "checkout", "install", "migrate", "backup",
];

/// Does what the command of this name does.
pub(super) async fn play(name: &str, line: &str, host: &Arc<Host>, shared: &Arc<Shared>) -> Outcome {
    if WRITE.contains(&name) && shared.faults.happens(&host.targets(), &FaultKind::DiskFull) {
        return Outcome::failed(1, format!("{name}: write error: No space left on device\n"));
    }
    match name {
        "get_key" => get_key(host, shared),
        "tls" => tls(host, shared),
        "release" => {
            let release = lock(&host.machine).release.clone();
            let version = release.trim_start_matches('v');
            Outcome::printed(format!("version={version}\ncommit={}\n", commit_of(&release)))
        }
        "saved_wallet" => saved_wallet(host, shared),
        "processes" => {
            let machine = lock(&host.machine);
            let pids = machine.process.iter().flat_map(|process| process.pids());
            Outcome::printed(pids.map(|pid| format!("{pid}\n")).collect::<String>())
        }
        "start" => gatewayd::start(host, shared),
        "stop" => gatewayd::stop(host, shared).await,
        "fetch" | "install" | "migrate" => Outcome::default(),
        "backup" => Outcome::printed(format!(
            "simulated: saved the host\nsim://backups/{}\n",
            host.instance
        )),
        "checkout" => checkout(line, host, shared),
        _ => Outcome::failed(127, format!("sh: {name}: simulated command not found\n")),
    }
}

fn get_key(host: &Host, shared: &Shared) -> Outcome {
    let noise = "gatewayd: made the folder for logs\n";
    let stderr = "(node) deprecated: a simulated warning\n".to_owned();
    if shared.faults.happens(&host.targets(), &FaultKind::NoKey) {
        return Outcome {
            stdout: noise.to_owned(),
            stderr,
            exit: 0,
        };
    }
    let mut machine = lock(&host.machine);
    let key = match machine.saved.key.clone() {
        Some(key) => key,
        None => {
            let key = host.new_api_key();
            machine.saved.key = Some(key.clone());
            shared.record(host, Event::KeyMade);
            key
        }
    };
    Outcome {
        stdout: format!("{noise}info: {key}\n"),
        stderr,
        exit: 0,
    }
}

/// Keeps the pair that was made before.
fn tls(host: &Host, shared: &Shared) -> Outcome {
    let mut machine = lock(&host.machine);
    if machine.certificate.is_none() {
        let name = host
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        match Certificate::make(&name) {
            Ok(made) => {
                shared.record(
                    host,
                    Event::CertificateMade {
                        fingerprint: made.fingerprint.clone(),
                    },
                );
                machine.certificate = Some(Arc::new(made));
            }
            Err(error) => return Outcome::failed(1, format!("{error}\n")),
        }
    }
    Outcome::printed(
        machine
            .certificate
            .as_ref()
            .map(|made| made.pem.clone())
            .unwrap_or_default(),
    )
}

fn saved_wallet(host: &Host, shared: &Shared) -> Outcome {
    let wrong = shared.faults.take(&host.targets(), |kind| match kind {
        FaultKind::WrongSavedWallet { address } => Some(address.clone()),
        _ => None,
    });
    let address = wrong.or_else(|| lock(&host.machine).saved.cold_wallet.clone());
    Outcome::printed(format!("{}\n", address.unwrap_or_default()))
}

/// Changes the files only: what runs goes on running.
fn checkout(line: &str, host: &Host, shared: &Shared) -> Outcome {
    let wanted = variable(line, "GATEWAYZEN_RELEASE").unwrap_or_default();
    let config = &shared.config;
    if !config.releases.contains(&wanted) && !config.images.values().any(|release| *release == wanted) {
        let message = format!("error: pathspec '{wanted}' did not match any file(s) known to git\n");
        return Outcome::failed(1, message);
    }
    if shared
        .faults
        .happens(&host.targets(), &FaultKind::KeepsOldRelease)
    {
        return Outcome::default();
    }
    let mut machine = lock(&host.machine);
    let from = std::mem::replace(&mut machine.release, wanted.clone());
    drop(machine);
    if from != wanted {
        shared.record(host, Event::ReleaseChanged { from, to: wanted });
    }
    Outcome::default()
}

//! Keys and credentials.

use std::path::Path;
use std::time::Duration;

use gatewayzen_bootstrap::keys::{Rings, key_ring, readable_by_others, shared_with_wallets};
use secrecy::ExposeSecret as _;

use super::{Checks, Status};
use crate::connect::Connections;
use crate::text::duration;

/// How long the EC2 check may take.
const EC2_LIMIT: Duration = Duration::from_secs(30);

/// The exit code of a `--check` that could not reach what it checks.
const UNAVAILABLE: i32 = 69;

pub(super) fn sealing_keys(checks: &mut Checks, connections: &Connections) {
    let secrets = &connections.settings.secrets;
    if secrets.key_file.is_empty() && secrets.keys.expose_secret().is_empty() {
        return checks.add(
            Status::Note,
            "sealing keys",
            "this configuration names none, so they were not looked at; the workers need them in theirs",
            "",
        );
    }
    match key_ring(secrets) {
        Ok(ring) => checks.ok(
            "sealing keys",
            format!("readable; new secrets are sealed with \"{}\"", ring.sealing_id()),
        ),
        Err(error) => checks.add(
            Status::Fail,
            "sealing keys",
            error.to_string(),
            "Without them no secret can be opened: mend the file from its backup.",
        ),
    }
    if !secrets.key_file.is_empty() {
        private(checks, "sealing keys", &secrets.key_file);
    }
}

/// The ring that opens every seed, where this configuration has one: an operator's who rotates, reveals or exports.
pub(super) fn wallet_keys(checks: &mut Checks, connections: &Connections) {
    let (what, secrets) = ("wallet keys", &connections.settings.secrets);
    if let Some(shared) = shared_with_wallets(secrets) {
        return checks.add(
            Status::Note,
            what,
            format!("none in this configuration; where the wallet-worker's has none either: {shared}"),
            "",
        );
    }
    let ring = Rings::all(secrets).and_then(|rings| rings.need_wallets(secrets).cloned());
    match ring {
        Ok(ring) => checks.ok(
            what,
            format!(
                "readable; seeds of wallets are sealed with \"{}\"",
                ring.sealing_id()
            ),
        ),
        Err(error) => checks.add(
            Status::Fail,
            what,
            error.to_string(),
            "Without them no wallet can be opened but from a backup: mend the file from its copy.",
        ),
    }
    if !secrets.wallet_key_file.is_empty() {
        private(checks, what, &secrets.wallet_key_file);
    }
}

pub(super) fn wallet_copies(checks: &mut Checks, connections: &Connections) {
    let secrets = &connections.settings.secrets;
    if !secrets.backup_key_file.is_empty() || !secrets.backup_keys.expose_secret().is_empty() {
        let ring = Rings::all(secrets).and_then(|rings| rings.need_backups(secrets).cloned());
        match ring {
            Ok(ring) => checks.ok(
                "backup keys",
                format!(
                    "readable; backups of wallets are sealed with \"{}\"",
                    ring.sealing_id()
                ),
            ),
            Err(error) => checks.add(
                Status::Fail,
                "backup keys",
                error.to_string(),
                "Without them no backup of wallets can be made or opened.",
            ),
        }
        if !secrets.backup_key_file.is_empty() {
            private(checks, "backup keys", &secrets.backup_key_file);
        }
    }
    let (what, place) = ("wallet copies", &secrets.wallet_copies);
    if place.is_empty() {
        return checks.add(
            Status::Note,
            what,
            "this configuration names no place for them, so none was looked at; where the wallet-worker's names none \
             either, a new wallet is in Postgres alone until the next `gatewayzen secrets export`",
            "See that secrets.wallet_copies and secrets.backup_key_file are set for the wallet-worker.",
        );
    }
    match tempfile::Builder::new().prefix(".doctor-").tempfile_in(place) {
        Ok(_) => checks.ok(what, format!("on: {place}, and this user may write there")),
        Err(error) => checks.add(
            Status::Warn,
            what,
            format!("on: {place}, and this user cannot write there: {error}"),
            "See that the wallet-worker's user can: without a copy it sets no wallet.",
        ),
    }
}

pub(super) fn ssh_key(checks: &mut Checks, connections: &Connections) {
    let file = &connections.settings.ssh.key_file;
    if file.is_empty() {
        return checks.add(
            Status::Note,
            "SSH key",
            "this configuration names none, so it was not looked at; the ssh-worker needs ssh.key_file in its own",
            "",
        );
    }
    match russh::keys::load_secret_key(file, None) {
        Ok(key) => {
            let fingerprint = key.public_key().fingerprint(russh::keys::HashAlg::Sha256);
            checks.ok("SSH key", format!("{file}: {fingerprint} (as `ssh-keygen -l` shows it)"));
        }
        Err(error) => checks.add(
            Status::Fail,
            "SSH key",
            format!("{file} cannot be used: {error}"),
            "ssh.key_file must be a private key in OpenSSH's or PEM format, without a passphrase, readable by this user.",
        ),
    }
    private(checks, "SSH key", file);
}

fn private(checks: &mut Checks, what: &str, file: &str) {
    if let Some(warning) = readable_by_others(file) {
        checks.add(Status::Warn, what, warning, "");
    }
}

/// This command does not speak to EC2: the instance-worker does, and checks its credentials itself.
pub(super) async fn ec2(checks: &mut Checks, connections: &Connections, config: Option<&Path>) {
    let what = "EC2";
    let not_looked = |checks: &mut Checks, why: &str| {
        checks.add(
            Status::Note,
            what,
            format!("the credentials were not looked at: {why}"),
            "Run `instance-worker --check` where it is installed, with its configuration.",
        );
    };
    let worker = std::env::current_exe()
        .ok()
        .map(|exe| exe.with_file_name("instance-worker"));
    let Some(worker) = worker.filter(|path| path.is_file()) else {
        return not_looked(checks, "there is no instance-worker beside this command");
    };
    let secrets = &connections.settings.secrets;
    if secrets.key_file.is_empty() && secrets.keys.expose_secret().is_empty() {
        return not_looked(
            checks,
            "this configuration names no sealing keys, so it is not the instance-worker's",
        );
    }
    let mut command = tokio::process::Command::new(worker);
    command
        .arg("--check")
        .kill_on_drop(true)
        .stdin(std::process::Stdio::null());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    match tokio::time::timeout(EC2_LIMIT, command.output()).await {
        Ok(Ok(done)) if done.status.success() => checks.ok(what, last_line(&done.stdout)),
        Ok(Ok(done)) => {
            let found = match last_line(&done.stderr) {
                line if line.is_empty() => format!("instance-worker --check ended with {}", done.status),
                line => line,
            };
            let mend = if done.status.code() == Some(UNAVAILABLE) {
                "See whether this machine reaches EC2's endpoint."
            } else {
                "Mend what it names. It was looked for from here: the worker's own environment may have other credentials."
            };
            checks.add(Status::Fail, what, found, mend);
        }
        Ok(Err(error)) => checks.add(
            Status::Warn,
            what,
            format!("instance-worker --check cannot be run: {error}"),
            "",
        ),
        Err(_) => checks.add(
            Status::Fail,
            what,
            format!(
                "instance-worker --check did not end within {}",
                duration(EC2_LIMIT)
            ),
            "See whether this machine reaches EC2's endpoint.",
        ),
    }
}

/// What a check says in the end, after any warnings, without its program's name.
fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.trim_end().lines().last().unwrap_or_default();
    line.strip_prefix("instance-worker: ").unwrap_or(line).to_owned()
}

//! Postgres, Redis, and the workers that listen there.

use std::collections::BTreeSet;
use std::time::Duration;

use gatewayzen_core::{Repository, Step};

use super::{Checks, Status};
use crate::connect::Connections;
use crate::halts;
use crate::text::{count, duration};
use crate::why::{patience, patience_with_dispatcher, process};

/// Clocks that are further apart than this, in seconds, are worth a warning.
const CLOCKS_APART: f64 = 2.0;

pub(super) async fn postgres(checks: &mut Checks, connections: &Connections) {
    let repository = match connections.repository().await {
        Ok(repository) => repository,
        Err(error) => {
            let mend =
                "Start Postgres, or set postgres.url (GATEWAYZEN_POSTGRES__URL) to an operator's login.";
            return checks.add(Status::Fail, "Postgres", error.to_string(), mend);
        }
    };
    checks.ok("Postgres", format!("answers {}", repository.target()));
    match repository.check_schema().await {
        Ok(()) => checks.ok("schema", "has every migration of this version"),
        Err(error) => {
            return checks.add(
                Status::Fail,
                "schema",
                error.to_string(),
                "Run `gatewayzen migrate` as the owner of the database.",
            );
        }
    }
    rights(checks, &repository).await;
    roles(checks, &repository).await;
    policy(checks, connections, &repository).await;
    halt(checks, &repository).await;
    dispatcher(checks, &repository, connections.settings.dispatcher.period).await;
    match repository.unsafe_durability().await {
        Ok(off) if off.is_empty() => checks.ok("durability", "fsync and synchronous_commit are on"),
        Ok(off) => checks.add(
            Status::Fail,
            "durability",
            format!(
                "off: {}; a wallet could be lost after a server heard its address",
                off.join(", ")
            ),
            "Turn them on in postgresql.conf: until then no new wallet is made.",
        ),
        Err(error) => checks.add(Status::Warn, "durability", error.to_string(), ""),
    }
    match repository.clock_skew().await {
        Ok(ahead) => clock(checks, "clock (Postgres)", ahead),
        Err(error) => checks.add(Status::Warn, "clock (Postgres)", error.to_string(), ""),
    }
}

async fn rights(checks: &mut Checks, repository: &Repository) {
    match repository.counts().await {
        Ok(counts) => {
            let rows = counts.iter().map(|c| c.rows).sum::<i64>();
            let faulty = counts.iter().map(|c| c.faulty).sum::<i64>();
            let found = count(usize::try_from(rows).unwrap_or(0), "gatewayd");
            if faulty > 0 {
                let mend = "See `gatewayzen list --faulty`, then `gatewayzen why NAME`.";
                checks.add(
                    Status::Warn,
                    "fleet",
                    format!("{found}, {faulty} with a fault"),
                    mend,
                );
            } else {
                checks.ok("fleet", found);
            }
        }
        Err(error) => checks.add(
            Status::Fail,
            "rights",
            format!("this login cannot read the table gatewayds: {error}"),
            "Log in with the role gatewayzen_operator, or grant it to this login.",
        ),
    }
}

/// Who may do what, as far as the catalogue shows it. Passwords and pg_hba.conf do not show.
async fn roles(checks: &mut Checks, repository: &Repository) {
    let what = "roles";
    match repository.role_faults().await {
        Ok(faults) if faults.is_empty() => checks.ok(
            what,
            "each login has the rights that the migrations gave it, and no more",
        ),
        Ok(faults) => {
            for fault in faults {
                checks.add(
                    Status::Fail,
                    what,
                    fault,
                    "Take it back (REVOKE, ALTER ROLE), or run `gatewayzen migrate` as a superuser where a role or an owner is missing.",
                );
            }
        }
        Err(error) => checks.add(Status::Warn, what, error.to_string(), ""),
    }
}

/// What must be kept elsewhere before a gatewayd may be terminated.
async fn policy(checks: &mut Checks, connections: &Connections, repository: &Repository) {
    let what = "ending gatewayds";
    // The right to read is a check of its own.
    let Ok(policy) = repository.decommission_policy().await else {
        return;
    };
    if policy.require_wallet_backup {
        checks.ok(
            what,
            if policy.require_host_backup {
                "wants a verified backup of the wallet and one of the host"
            } else {
                "wants a verified backup of the wallet"
            },
        );
    } else {
        checks.add(
            Status::Note,
            what,
            "wants no backup of the wallet",
            "`gatewayzen policy --require-wallet-backup yes --reason …` asks for one.",
        );
    }
    let command = !connections.settings.gatewayd.backup_command.trim().is_empty();
    match (policy.require_host_backup, command) {
        (true, false) => checks.add(
            Status::Warn,
            what,
            "wants a backup of the host, and this configuration has no gatewayd.backup_command to make one",
            "Set it for the ssh-workers, or `gatewayzen policy --require-host-backup no --reason …`.",
        ),
        (false, true) => checks.add(
            Status::Warn,
            what,
            "wants no backup of the host, although this configuration has a gatewayd.backup_command: it runs in the step of \
             `stop`, and a host that goes from `live` to `terminate` ends without one",
            "`gatewayzen policy --require-host-backup yes --reason …` asks for one.",
        ),
        (true, true) | (false, false) => {}
    }
}

async fn halt(checks: &mut Checks, repository: &Repository) {
    // The right to read is a check of its own.
    if let Ok(Some(halt)) = repository.halt().await {
        let now = time::OffsetDateTime::now_utc();
        checks.add(
            Status::Fail,
            "fleet halted",
            halts::sentence(&halt, now),
            halts::UNBLOCK,
        );
    }
}

/// Nothing registers a dispatcher: rows that nobody looks at show that none runs.
async fn dispatcher(checks: &mut Checks, repository: &Repository, period: Duration) {
    let what = "dispatcher";
    match repository.overdue().await {
        Ok(Some(overdue)) if overdue > patience_with_dispatcher(period) => checks.add(
            Status::Fail,
            what,
            format!(
                "a row has been due for {} and was not looked at: none seems to run",
                duration(overdue)
            ),
            "Start the service dispatcher, or see in its log whether it reaches Postgres and Redis.",
        ),
        Ok(Some(_)) => checks.ok(what, "no row waits long for it"),
        Ok(None) => checks.ok(what, "no row waits for it, so whether it runs does not show"),
        // The right to read the table is a check of its own.
        Err(_) => {}
    }
}

fn clock(checks: &mut Checks, what: &str, ahead: f64) {
    let apart = duration(Duration::from_secs_f64(ahead.abs()));
    let found = match ahead {
        // The question and its answer take a moment too.
        _ if ahead.abs() < 1.0 => "agrees with this machine's".to_owned(),
        _ if ahead < 0.0 => format!("{apart} behind this machine's"),
        _ => format!("{apart} ahead of this machine's"),
    };
    if ahead.abs() > CLOCKS_APART {
        checks.add(
            Status::Warn,
            what,
            found,
            "Run a time daemon on both: deadlines and EC2's signatures need right clocks.",
        );
    } else {
        checks.ok(what, found);
    }
}

pub(super) async fn redis(checks: &mut Checks, connections: &Connections) {
    let queue = match connections.queue() {
        Ok(queue) => queue,
        Err(error) => {
            return checks.add(
                Status::Fail,
                "Redis",
                error.to_string(),
                "Mend redis.url and redis.namespace.",
            );
        }
    };
    match queue.ping().await {
        Ok(took) => checks.ok(
            "Redis",
            format!("answers in {:.1} ms", took.as_secs_f64() * 1000.0),
        ),
        Err(error) => {
            return checks.add(
                Status::Fail,
                "Redis",
                error.to_string(),
                "Start Redis, or mend redis.url: no row is lost meanwhile.",
            );
        }
    }
    match queue.appends_to_file().await {
        Ok(Some(true)) => checks.ok("Redis on disk", "appendonly is on"),
        Ok(_) => checks.add(
            Status::Note,
            "Redis on disk",
            "appendonly is off or not told; a restart of Redis empties the queues, and the dispatcher fills them again",
            "",
        ),
        Err(error) => checks.add(Status::Note, "Redis on disk", error.to_string(), ""),
    }
    if let Ok(now) = queue.server_time().await {
        let here = time::OffsetDateTime::now_utc().unix_timestamp_nanos() as f64 / 1e9;
        clock(checks, "clock (Redis)", now.as_secs_f64() - here);
    }
    if queue.is_paused().await.unwrap_or(false) {
        let mend = "Delete the key, and see who set it.";
        checks.add(
            Status::Warn,
            "workers",
            "all are paused by the key pause-all-workers in Redis",
            mend,
        );
    }
    match queue.workers().await {
        Ok(workers) => {
            for step in Step::ALL {
                listeners(checks, step, queue.len(step.queue()).await.unwrap_or(0), &workers);
            }
        }
        Err(error) => checks.add(Status::Warn, "workers", error.to_string(), ""),
    }
}

fn listeners(checks: &mut Checks, step: Step, waiting: usize, workers: &[resque::WorkerInfo]) {
    let alive = workers
        .iter()
        .filter(|w| w.listens_on(step.queue()) && w.silent_for.is_none_or(|silent| silent <= patience(w)));
    let (mut slots, mut processes) = (0, BTreeSet::new());
    for worker in alive {
        slots += 1;
        processes.insert(process(worker));
    }
    let jobs = if waiting > 0 {
        format!("; {} waiting", count(waiting, "job"))
    } else {
        String::new()
    };
    if slots == 0 {
        checks.add(
            Status::Fail,
            step.queue(),
            format!("no {} listens on this queue{jobs}", step.worker()),
            format!(
                "Start one, or see its log: rows stay in state {} until then.",
                step.state()
            ),
        );
    } else {
        checks.ok(
            step.queue(),
            format!(
                "{} with {}{jobs}",
                count(processes.len(), step.worker()),
                count(slots, "slot")
            ),
        );
    }
}

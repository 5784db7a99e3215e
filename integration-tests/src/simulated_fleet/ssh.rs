//! The SSH server of a host: one account, one key, and commands by name in place of a shell.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Config, Handle, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::commands::{self, Outcome};
use super::faults::{FaultKind, means};
use super::host::{Host, OVERTAKEN};
use super::ledger::{Event, millis};
use super::network::Line;
use super::{Shared, lock};

/// How much a flooding command writes.
const FLOOD_BYTES: usize = 200 << 20;

/// Serves one connection until it ends.
pub(super) async fn connection(mut line: Line, host: Arc<Host>, shared: Arc<Shared>) {
    let happens = |kind| shared.faults.happens(&host.targets(), &kind);
    let stranger = Stranger(host.clone());
    let others = host.strangers.fetch_add(1, Ordering::Relaxed);
    let drops = shared
        .config
        .max_startups
        .map_or(0.0, |limit| limit.drops(others));
    if shared.faults.chance(drops) {
        shared.faults.count("max_startups");
        let _ = line.write_all(b"Exceeded MaxStartups\r\n").await;
        return;
    }
    let refused = shared.faults.take(&host.targets(), |kind| match kind {
        FaultKind::ConnectionRefused { ms } => Some(Duration::from_millis(*ms)),
        _ => None,
    });
    if let Some(away) = refused {
        // This very connection is cut with the others.
        host.close_for(away);
        return line.cut.cancelled().await;
    }
    if happens(FaultKind::ConnectionReset) {
        let _ = line.stream.set_zero_linger();
        return;
    }
    if happens(FaultKind::HostNeverAnswers) {
        return line.cut.cancelled().await;
    }
    let config = Config {
        keys: vec![host.ssh_key(
            happens(FaultKind::WrongHostKey),
            happens(FaultKind::LaunchHostKey),
        )],
        auth_rejection_time: Duration::from_millis(10),
        inactivity_timeout: None,
        ..Config::default()
    };
    let handler = Connection {
        stranger: Some(stranger),
        refuses: happens(FaultKind::RefusesUserKey),
        cut: line.cut.clone(),
        ended: CancellationToken::new(),
        host: host.clone(),
        shared: shared.clone(),
    };
    // The session runs in a task of its own, which ends when the line is cut.
    if let Ok(session) = russh::server::run_stream(Arc::new(config), line, handler).await {
        let _ = session.await;
    }
}

/// A connection that has not logged in.
struct Stranger(Arc<Host>);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection {
    /// Until the login.
    stranger: Option<Stranger>,
    refuses: bool,
    /// Cuts the connection.
    cut: CancellationToken,
    /// Says that the connection has ended.
    ended: CancellationToken,
    host: Arc<Host>,
    shared: Arc<Shared>,
}

impl Connection {
    fn admit(&self, user: &str, key: &PublicKey) -> Auth {
        let machine = lock(&self.host.machine);
        let admitted = machine.admits.iter().any(|one| one.key_data() == key.key_data());
        let known = user == self.shared.config.ssh_user && admitted;
        if known && !self.refuses {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let judged = self.admit(user, key.public_key);
        if judged == Auth::Accept {
            self.stranger = None;
        }
        Ok(judged)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if self
            .shared
            .faults
            .happens(&self.host.targets(), &FaultKind::SessionHangs)
        {
            return Ok(());
        }
        session.channel_success(channel)?;
        self.shared.heard(&String::from_utf8_lossy(data));
        let command = Command {
            line: String::from_utf8_lossy(data).into_owned(),
            host: self.host.clone(),
            shared: self.shared.clone(),
            cut: self.cut.clone(),
            ended: self.ended.clone(),
        };
        let (handle, boot) = (session.handle(), self.host.boot());
        // A command outlives its connection, as on a real host, but not its host.
        tokio::spawn(boot.run_until_cancelled_owned(command.run(handle, channel)));
        Ok(())
    }
}

struct Command {
    line: String,
    host: Arc<Host>,
    shared: Arc<Shared>,
    cut: CancellationToken,
    ended: CancellationToken,
}

impl Command {
    async fn run(self, handle: Handle, channel: ChannelId) {
        let Some(outcome) = self.outcome(&handle, channel).await else {
            return;
        };
        // Errors here are a client that left.
        if !outcome.stdout.is_empty() {
            let _ = handle.data(channel, outcome.stdout).await;
        }
        if !outcome.stderr.is_empty() {
            let _ = handle.extended_data(channel, 1, outcome.stderr).await;
        }
        let _ = handle.exit_status_request(channel, outcome.exit).await;
        let _ = handle.eof(channel).await;
        let _ = handle.close(channel).await;
    }

    /// Plays the command; `None` when nobody is to be told how it ended.
    async fn outcome(&self, handle: &Handle, channel: ChannelId) -> Option<Outcome> {
        let name = commands::variable(&self.line, "GATEWAYZEN_COMMAND").unwrap_or_default();
        let times = &self.shared.config.times;
        let held_up = self.shared.faults.take(&self.host.targets(), |kind| match kind {
            FaultKind::CommandHeldUp { command, ms } if means(command, &name) => Some(*ms),
            _ => None,
        });
        if let Some(ms) = held_up {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let waited = self.host.command_lock.try_lock().is_err();
        let lock = self.host.command_lock.lock();
        let Ok(_lock) = tokio::time::timeout(Duration::from_millis(times.lock_wait_ms), lock).await else {
            return Some(Outcome::failed(75, ""));
        };
        let lease = commands::variable(&self.line, "GATEWAYZEN_LEASE").and_then(|text| text.parse().ok());
        if let Some(Err(ended)) = lease.map(|lease| self.host.hear(lease, &self.shared)) {
            let (name, exit) = (name.clone(), ended.exit);
            let event = match exit {
                OVERTAKEN => Event::CommandRefused { name },
                _ => Event::Command {
                    name,
                    waited,
                    took_ms: 0,
                    exit,
                },
            };
            self.shared.record(&self.host, event);
            return Some(ended);
        }
        let started = Instant::now();
        let happens = |is: &dyn Fn(&FaultKind) -> bool| self.shared.faults.any(&self.host.targets(), is);
        if happens(&|kind| matches!(kind, FaultKind::CommandHangs { command } if means(command, &name))) {
            self.ended.cancelled().await;
            return None;
        }
        if happens(&|kind| matches!(kind, FaultKind::CommandFloods { command } if means(command, &name))) {
            flood(handle, channel).await;
        }
        tokio::time::sleep(self.host.vary(times.command(&name), times)).await;
        if happens(&|kind| matches!(kind, FaultKind::CommandReboots { command } if means(command, &name))) {
            self.host.reboot(&self.shared);
            return None;
        }
        let status = self.shared.faults.take(&self.host.targets(), |kind| match kind {
            FaultKind::CommandExits { command, status } if means(command, &name) => Some(*status),
            _ => None,
        });
        let mut outcome = match status {
            Some(status) => Outcome::failed(status, "simulated failure\n"),
            None => commands::play(&name, &self.line, &self.host, &self.shared).await,
        };
        let prints = self.shared.faults.take(&self.host.targets(), |kind| match kind {
            FaultKind::CommandPrints { command, text } if means(command, &name) => Some(text.clone()),
            _ => None,
        });
        if let Some(text) = prints {
            outcome.stdout = text;
        }
        if outcome.exit == 0 {
            let badly = self.shared.faults.take(&self.host.targets(), |kind| match kind {
                FaultKind::CommandEndsBadly { command, status } if means(command, &name) => Some(*status),
                _ => None,
            });
            outcome.exit = badly.unwrap_or_default();
        }
        let took_ms = millis(started.elapsed());
        let event = Event::Command {
            name: name.clone(),
            waited,
            took_ms,
            exit: outcome.exit,
        };
        self.shared.record(&self.host, event);
        if happens(&|kind| matches!(kind, FaultKind::CommandLosesReply { command } if means(command, &name)))
        {
            self.cut.cancel();
            return None;
        }
        Some(outcome)
    }
}

async fn flood(handle: &Handle, channel: ChannelId) {
    let chunk = "gatewayd says the same thing over and over\n".repeat(700);
    let mut written = 0;
    while written < FLOOD_BYTES && handle.data(channel, chunk.clone()).await.is_ok() {
        written += chunk.len();
    }
}

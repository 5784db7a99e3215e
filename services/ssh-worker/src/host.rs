//! A row's host, connected: how a step reaches it and runs commands there.

use std::time::{Duration, Instant};

use gatewayzen_core::repository::{HostIdentity, Lease, Repository, RepositoryError};
use gatewayzen_core::{Gatewayd, Next, StepError, crash};
use gatewayzen_worker::StepContext;

use crate::command::{End, Output};
use crate::identity::{Accepted, fingerprint, line};
use crate::observe;
use crate::parse::shown;
use crate::remote::{self, Command};
use crate::session::{ConnectError, FleetKey, Session};
use crate::steps::SshSteps;

/// While a host boots: how long a TCP connection may take (what a sleeping host was sent is lost, so asking anew is
/// quicker than waiting), how soon the next one is tried, how long a step does so, and when it comes back.
const BOOT_REACH: Duration = Duration::from_secs(1);
const BOOT_RETRY: Duration = Duration::from_millis(200);
const BOOT_PATIENCE: Duration = Duration::from_secs(3);
const BOOT_AGAIN: Duration = Duration::from_millis(500);

/// When a step comes back that found the host's lock taken.
const LOCK_AGAIN: Duration = Duration::from_secs(1);

/// Why a step ends early: nothing is wrong and it is only not yet so, or it failed.
pub(crate) enum Halt {
    Wait { after: Duration, waiting_for: String },
    Fail(StepError),
}

impl From<StepError> for Halt {
    fn from(error: StepError) -> Self {
        Halt::Fail(error)
    }
}

impl From<RepositoryError> for Halt {
    fn from(error: RepositoryError) -> Self {
        Halt::Fail(error.into())
    }
}

/// What a step returns, before the runner sees it.
pub(crate) type Step = Result<Next, Halt>;

/// A leased row: whose host it is, and by what right something is done there.
#[derive(Clone, Copy)]
pub(crate) struct Leased<'a> {
    pub(crate) row: &'a Gatewayd,
    pub(crate) lease: &'a Lease,
    pub(crate) repository: &'a Repository,
}

impl<'a> From<&'a StepContext> for Leased<'a> {
    fn from(context: &'a StepContext) -> Self {
        Leased {
            row: &context.gatewayd,
            lease: &context.lease,
            repository: &context.repository,
        }
    }
}

/// A connected host.
pub(crate) struct Host<'a> {
    pub(crate) steps: &'a SshSteps,
    pub(crate) session: Session,
    /// What was known of it when it was reached.
    pub(crate) identity: HostIdentity,
    pub(crate) of: Leased<'a>,
}

impl<'a> Host<'a> {
    /// Connects to the row's host. `may_boot`: the host may have been launched only now.
    pub(crate) async fn reach(
        steps: &'a SshSteps,
        of: impl Into<Leased<'a>>,
        may_boot: bool,
    ) -> Result<Self, Halt> {
        let of = of.into();
        let row = of.row;
        let via = steps.connect_via;
        let Some(address) = via.address(row) else {
            let via = via.name();
            return Err(StepError::permanent(
                format!("the row has no {via} address, and hosts.connect_via says to dial that one"),
                "The step initializeEc2Instance records it: give the instance such an address, or set hosts.connect_via; \
                 then retry, or terminate the server and build it anew.",
            )
            .into());
        };
        let Some(identity) = of.repository.host_identity(row.id).await? else {
            return Err(StepError::permanent(
                format!("no launch attempt in force holds the SSH host key of {address}, which initializeEc2Instance stores"),
                "Terminate the server and build it anew: a host whose key is not known beforehand is never trusted.",
            )
            .into());
        };
        let accepted = Accepted::of(&identity).map_err(|error| {
            StepError::permanent(
                format!("the SSH host key that is stored for {address} cannot be read: {error}"),
                "Terminate the server and build it anew.",
            )
        })?;
        let begun = Instant::now();
        let grace = if may_boot {
            steps.boot_grace
        } else {
            Duration::ZERO
        };
        loop {
            let booting = row.read_at - row.since + begun.elapsed() < grace;
            let reach = if booting {
                BOOT_REACH.min(steps.connect_timeout)
            } else {
                steps.connect_timeout
            };
            let error = match log_in(steps, address, &accepted, &identity, reach).await {
                Ok(session) => {
                    let host = Host {
                        steps,
                        session,
                        identity,
                        of,
                    };
                    return host.known().await;
                }
                Err(error) => error,
            };
            if !booting || !matches!(error, ConnectError::Unreachable(_)) {
                return Err(steps.not_connected(&row.name, address, &error).into());
            }
            tracing::debug!(server.address = address, %error, "not up yet");
            if begun.elapsed() >= BOOT_PATIENCE {
                let waiting_for = format!("its SSH server at {address} to answer (last: {error})");
                return Err(Halt::Wait {
                    after: BOOT_AGAIN,
                    waiting_for,
                });
            }
            tokio::time::sleep(BOOT_RETRY).await;
        }
    }

    /// Writes what the connection has shown: which host key an operator's fingerprint was of, and which of our keys is let
    /// in.
    async fn known(mut self) -> Result<Self, Halt> {
        let Leased {
            row,
            lease,
            repository,
        } = self.of;
        if self.identity.expected_host_key.is_some() {
            let met = line(self.session.host_key());
            repository.pin_host_key(lease, &met).await?.or_overtaken()?;
            let identity = repository.host_identity(row.id).await?;
            self.identity = identity.ok_or(StepError::Overtaken)?;
        }
        let ours = self
            .steps
            .ssh
            .public(self.session.logged_in_with())
            .map(fingerprint);
        if let Some(ours) = ours.filter(|key| !self.identity.lets_in.contains(key)) {
            repository
                .record_ssh_login(lease, &ours, true)
                .await?
                .or_overtaken()?;
            self.identity.lets_in.push(ours);
        }
        Ok(self)
    }

    /// Another connection to the same host, with one of our keys and no other.
    pub(crate) async fn again(&self, which: FleetKey) -> Result<Session, ConnectError> {
        let accepted = Accepted::from(self.session.host_key());
        let (address, reach) = (self.session.address(), self.steps.connect_timeout);
        self.steps
            .ssh
            .connect_with(which, address, &accepted, reach)
            .await
    }

    /// Runs a command for at most `time`, and returns however it ended.
    pub(crate) async fn run(&self, command: Command, time: Duration) -> Result<Output, Halt> {
        let release = self.of.row.release.as_deref();
        let release = release.map(|release| ("GATEWAYZEN_RELEASE", release));
        self.run_with(command, release.as_slice(), time).await
    }

    /// As [`run`](Self::run), with these variables in the command's environment.
    async fn run_with(
        &self,
        command: Command,
        variables: &[(&str, &str)],
        time: Duration,
    ) -> Result<Output, Halt> {
        let settings = &self.steps.gatewayd;
        let (gatewayd, lease) = (self.of.row.id, self.of.lease.number);
        let line = remote::line_with(settings, command, gatewayd, lease, variables, time);
        let (name, address) = (command.name(), self.session.address());
        let begun = Instant::now();
        let running = observe::command(name, address, self.steps.ssh_port, self.session.run(&line));
        let ran = crash::around(name, running).await;
        tracing::debug!(
            command = name,
            server.address = address,
            took_ms = begun.elapsed().as_millis() as u64,
            ?ran,
            "command"
        );
        let output = ran.map_err(|broken| {
            StepError::transient(
                format!("`{name}` on host {address}: {broken}"),
                "See what the host is busy with.",
            )
        })?;
        if output.end == End::Exit(remote::LOCK_BUSY) {
            let lock = format!("{}/lock", settings.state_directory);
            let waiting_for =
                format!("another command of GatewayZen on host {address} to end (it holds {lock})");
            return Err(Halt::Wait {
                after: LOCK_AGAIN,
                waiting_for,
            });
        }
        if output.end == End::Exit(remote::OVERTAKEN) {
            // A lease that still stands gets this only from a host that has heard of leases that the database has not:
            // nothing is done to it before a person has looked.
            return Err(StepError::permanent(
                format!(
                    "host {address} refused `{name}`: it has heard a later lease of this row than lease {lease}, which is the \
                     database's latest"
                ),
                "The database is older than the host: if it was restored from a backup, say so with `gatewayzen restored --why …`, and \
                 then retry.",
            )
            .into());
        }
        Ok(output)
    }

    /// Runs a command that must end with exit status 0.
    pub(crate) async fn must(&self, command: Command, time: Duration) -> Result<Output, Halt> {
        let output = self.run(command, time).await?;
        if output.end == End::Exit(0) {
            Ok(output)
        } else {
            Err(self.failed(command, time, &output).into())
        }
    }

    /// Runs one of the short commands.
    pub(crate) async fn ask(&self, command: Command) -> Result<Output, Halt> {
        self.must(command, self.steps.gatewayd.command_timeout).await
    }

    /// Runs one of the short commands with these variables in its environment.
    pub(crate) async fn ask_with(
        &self,
        command: Command,
        variables: &[(&str, &str)],
    ) -> Result<Output, Halt> {
        let time = self.steps.gatewayd.command_timeout;
        let output = self.run_with(command, variables, time).await?;
        if output.end == End::Exit(0) {
            Ok(output)
        } else {
            Err(self.failed(command, time, &output).into())
        }
    }

    /// The sentence for a command that ended otherwise than it should.
    pub(crate) fn failed(&self, command: Command, time: Duration, output: &Output) -> StepError {
        let said = said(command, output);
        let what = self.named(command);
        match &output.end {
            End::Exit(remote::TIMED_OUT) => StepError::transient(
                format!(
                    "{what} did not end within its {} s and was ended there{said}",
                    time.as_secs_f64().ceil()
                ),
                "See what the host is busy with, or give the command more time (gatewayd.command_timeout, start_timeout, \
                 stop_timeout, update_timeout, backup_timeout).",
            ),
            End::Exit(remote::KILLED) => StepError::transient(
                format!(
                    "{what} was killed (exit status 137): it did not end when told to, or the host ran out of memory{said}"
                ),
                "See the host's memory and log.",
            ),
            end => StepError::transient(
                format!("{what} ended with {end}{said}"),
                format!(
                    "Run it by hand on the host to see why, and mend the host or the setting {}.",
                    command.setting()
                ),
            ),
        }
    }

    /// The sentence for a command whose output is not what it should be.
    pub(crate) fn strange(
        &self,
        command: Command,
        why: impl std::fmt::Display,
        output: &Output,
    ) -> StepError {
        StepError::transient(
            format!(
                "{} {why} ({}){}",
                self.named(command),
                output.end,
                said(command, output)
            ),
            format!(
                "Run it by hand on the host, and mend gatewayd there or the setting {}.",
                command.setting()
            ),
        )
    }

    fn named(&self, command: Command) -> String {
        format!("`{}` on host {}", command.name(), self.session.address())
    }
}

impl SshSteps {
    pub(crate) fn not_connected(&self, name: &str, address: &str, error: &ConnectError) -> StepError {
        let port = self.ssh_port;
        match error {
            ConnectError::Unreachable(reason) => StepError::transient(
                format!("no SSH session with host {address} port {port}: {reason}"),
                "See that the instance runs and that its security group lets this worker reach that port.",
            ),
            ConnectError::WrongHostKey { .. } => StepError::permanent(
                format!("host {address} port {port} is not the one that is known: {error}"),
                format!(
                    "If you replaced that key, read the new fingerprint on the host's own console and say `gatewayzen identity reset \
                     {name} --fingerprint SHA256:… --reason …`; then retry. Otherwise somebody stands between, or has that address: \
                     see who, and never accept the other key."
                ),
            ),
            ConnectError::Refused { .. } => StepError::permanent(
                format!("host {address} port {port} knows neither that user nor that key together: {error}"),
                "Set ssh.user and ssh.key_file (while the fleet's key is rotated, ssh.next_key_file too) to what the golden AMI and \
                 the EC2 key pair (ec2.key_name) let in; then retry.",
            ),
        }
    }
}

/// Logs in with the key of ours that the host is known to let in, else with the other of the two, and with no third one.
async fn log_in(
    steps: &SshSteps,
    address: &str,
    accepted: &Accepted,
    identity: &HostIdentity,
    reach: Duration,
) -> Result<Session, ConnectError> {
    let mut refused: Vec<String> = Vec::new();
    let mut by = String::new();
    for which in steps.ssh.order(&identity.lets_in) {
        match steps.ssh.connect_with(which, address, accepted, reach).await {
            Err(ConnectError::Refused { user, key }) => {
                refused.push(key);
                by = user;
            }
            other => return other,
        }
    }
    Err(ConnectError::Refused {
        user: by,
        key: refused.join(" and with the key "),
    })
}

/// What the command printed, for the end of a sentence. Of `get_key` only what cannot be the key.
fn said(command: Command, output: &Output) -> String {
    // gatewayd's migrations print the database's URL or password, in more than one form.
    if command == Command::Migrate {
        return "; what it printed is not shown, since it may hold the database's password".to_owned();
    }
    let errors = shown(&output.stderr);
    let text = if errors.is_empty() && command != Command::GetKey {
        shown(&output.stdout)
    } else {
        errors
    };
    if text.is_empty() {
        "; it printed nothing".to_owned()
    } else {
        format!("; it printed: {text}")
    }
}

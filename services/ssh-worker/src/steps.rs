//! The ssh-worker's four steps, and what they need to know.

use std::time::Duration;

use gatewayzen_bootstrap::ConfigError;
use gatewayzen_bootstrap::settings::{ConnectVia, Gatewayd, Settings};
use gatewayzen_core::seal::KeyRing;
use gatewayzen_core::{Next, Step, StepError};
use gatewayzen_worker::{StepContext, Steps};

use crate::host::Halt;
use crate::remote::Command;
use crate::session::Ssh;
use crate::{key, start, stop, update};

/// The steps of the ssh-worker.
pub struct SshSteps {
    pub(crate) ssh: Ssh,
    pub(crate) keys: KeyRing,
    pub(crate) gatewayd: Gatewayd,
    pub(crate) connect_via: ConnectVia,
    pub(crate) connect_timeout: Duration,
    pub(crate) boot_grace: Duration,
    pub(crate) ssh_port: u16,
}

impl SshSteps {
    /// The steps with their settings, the fleet's private key as its file holds it, and the keys that seal secrets.
    ///
    /// # Errors
    /// The key file holds no key that can be used, or a command is empty.
    pub fn new(settings: &Settings, private_key: &[u8], keys: KeyRing) -> Result<Self, ConfigError> {
        let ssh = Ssh::new(&settings.ssh, private_key)
            .map_err(|why| ConfigError::of("ssh.key_file", format!("{}: {why}", settings.ssh.key_file)))?;
        for command in Command::ALL {
            if command.text(&settings.gatewayd).trim().is_empty() {
                return Err(ConfigError::of(
                    &command.setting(),
                    "must not be empty; a command that has nothing to do is \":\"",
                ));
            }
        }
        Ok(Self {
            ssh,
            keys,
            gatewayd: settings.gatewayd.clone(),
            connect_via: settings.hosts.connect_via,
            connect_timeout: settings.ssh.connect_timeout,
            boot_grace: settings.ssh.boot_grace,
            ssh_port: settings.ssh.port,
        })
    }

    /// SHA-256 of the fleet's public key, as OpenSSH prints it.
    #[must_use]
    pub fn fleet_key(&self) -> String {
        self.ssh.fingerprint()
    }
}

impl Steps for SshSteps {
    fn all(&self) -> &'static [Step] {
        &[
            Step::RetrieveApiKey,
            Step::StartGatewayd,
            Step::StopGatewayd,
            Step::UpdateGatewayd,
        ]
    }

    async fn take(&self, context: &StepContext) -> Result<Next, StepError> {
        let ended = match context.step {
            Step::RetrieveApiKey => key::retrieve(self, context).await,
            Step::StartGatewayd => start::start(self, context).await,
            Step::StopGatewayd => stop::stop(self, context).await,
            Step::UpdateGatewayd => update::update(self, context).await,
            other => {
                let sentence = format!("the ssh-worker has no step {other}");
                return Err(StepError::permanent(
                    sentence,
                    format!("Run a {} for that queue.", other.worker()),
                ));
            }
        };
        match ended {
            Ok(next) => Ok(next),
            Err(Halt::Wait { after, waiting_for }) => Ok(Next::WaitUntil { after, waiting_for }),
            Err(Halt::Fail(error)) => Err(error),
        }
    }
}

//! Connections, made when a command first needs them.

use std::time::Duration;

use gatewayzen_bootstrap::settings::Settings;
use gatewayzen_core::Repository;
use secrecy::ExposeSecret as _;

use crate::failure::Failure;

/// How long a command waits for Redis: an operator waits for it.
const REDIS_LIMIT: Duration = Duration::from_secs(3);

/// The settings, and what they connect to.
pub(crate) struct Connections {
    pub(crate) settings: Settings,
}

impl Connections {
    /// A repository that has not connected yet.
    pub(crate) fn lazy_repository(&self) -> Result<Repository, Failure> {
        let postgres = &self.settings.postgres;
        Ok(Repository::new(
            postgres.url.expose_secret(),
            2,
            postgres.acquire_timeout,
        )?)
    }

    /// A repository whose Postgres answers.
    pub(crate) async fn repository(&self) -> Result<Repository, Failure> {
        let repository = self.lazy_repository()?;
        match repository.ping().await {
            Ok(()) => Ok(repository),
            Err(error) => Err(Failure::Unavailable(format!(
                "{error} (as {}); is it running, and is postgres.url right?",
                repository.target()
            ))),
        }
    }

    /// The queues; they connect with the first call.
    pub(crate) fn queue(&self) -> Result<resque::Queue, Failure> {
        let redis = &self.settings.redis;
        Ok(resque::Queue::connect_lazy(&resque::Config {
            url: redis.url.expose_secret().to_owned(),
            namespace: redis.namespace.clone(),
            ca_file: redis.ca_file.clone(),
            connect_timeout: REDIS_LIMIT,
            response_timeout: REDIS_LIMIT,
        })?)
    }
}

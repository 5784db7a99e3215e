//! The EC2 client.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, retry::RetryConfig};
use aws_sdk_ec2::Client;
use aws_smithy_http_client::{Builder, tls};
use gatewayzen_bootstrap::{ConfigError, Error, GOOD};

use crate::errors::{Failure, Meaning};
use crate::observe::Observer;

/// How often the SDK sends a call that may be repeated.
const TRIES: u32 = 3;
const CONNECT: Duration = Duration::from_secs(5);
const ONE_TRY: Duration = Duration::from_secs(20);
const ALL_TRIES: Duration = Duration::from_secs(60);

/// An EC2 client. Region, credentials and endpoint come as the AWS SDK finds them (environment, profile, role of
/// the instance); a `region` that is not empty wins. Credentials are first used by the first call.
///
/// # Errors
/// There is no region.
pub async fn connect(region: &str) -> Result<Client, ConfigError> {
    let mut loader = loader();
    if !region.is_empty() {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let config = loader.load().await;
    if config.region().is_none() {
        return Err(ConfigError::of(
            "ec2.region",
            "no AWS region is known: set it, or AWS_REGION in the environment",
        ));
    }
    let config = aws_sdk_ec2::config::Builder::from(&config).interceptor(Observer::new());
    Ok(Client::from_conf(config.build()))
}

/// The SDK's configuration as this worker wants it, to be completed by what the environment says.
pub fn loader() -> ConfigLoader {
    // The SDK's own HTTP client is left out of the build, since it brings a second cryptography library.
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ONE_TRY)
        .operation_timeout(ALL_TRIES)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
}

/// Sees that EC2 takes the credentials, by a call that changes nothing.
///
/// # Errors
/// A [`ConfigError`] for a missing region and for credentials that EC2 refuses; any other for an EC2 that cannot be
/// reached.
pub async fn check(region: &str) -> Result<String, Error> {
    let client = connect(region).await?;
    let failure = match client.describe_instances().dry_run(true).send().await {
        Ok(_) => return Ok(format!("{GOOD}, and EC2 takes the credentials")),
        Err(error) => Failure::new("DescribeInstances", &error),
    };
    match failure.meaning {
        // EC2's way to say that a dry run would have gone well.
        _ if failure.code == "DryRunOperation" => Ok(format!("{GOOD}, and EC2 takes the credentials")),
        Meaning::Credentials => Err(ConfigError::of(
            "AWS credentials",
            format!(
                "{}: give the worker credentials of the fleet's account (environment, profile or instance role), \
                 with the rights to RunInstances, CreateTags, DescribeImages, DescribeInstances and TerminateInstances",
                failure.sentence()
            ),
        )
        .into()),
        _ => Err(failure.sentence().into()),
    }
}

//! The EC2 client.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig, retry::RetryConfig};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::BoxError;
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_types::body::SdkBody;
use gatewayzen_bootstrap::{ConfigError, Error, GOOD};
use http_body_util::Limited;

use crate::errors::{Failure, Meaning};
use crate::observe::Observer;

/// How often the SDK sends a call that may be repeated.
const TRIES: u32 = 3;
const CONNECT: Duration = Duration::from_secs(5);
const ONE_TRY: Duration = Duration::from_secs(20);
const ALL_TRIES: Duration = Duration::from_secs(60);
/// The longest answer that is read: several times what a full page of instances takes.
const LONGEST_ANSWER: usize = 32 << 20;

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
    Ok(client(&config))
}

/// A client that is watched, and that reads no answer without end.
pub(crate) fn client(config: &SdkConfig) -> Client {
    let config = aws_sdk_ec2::config::Builder::from(config)
        .interceptor(Observer::new())
        .interceptor(Bound);
    Client::from_conf(config.build())
}

/// Fails a call whose answer goes on and on, before it fills the memory.
#[derive(Debug)]
struct Bound;

impl Intercept for Bound {
    fn name(&self) -> &'static str {
        "Bound"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let body = Limited::new(response.take_body(), LONGEST_ANSWER);
        *response.body_mut() = SdkBody::from_body_1_x(body);
        Ok(())
    }
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

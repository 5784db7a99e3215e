//! The whole of a RunInstances request, as it is stored before EC2 hears of it.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataOptionsRequest, InstanceType, ResourceType, Tag, TagSpecification,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use gatewayzen_bootstrap::settings;
use gatewayzen_core::seal::SecretBytes;
use gatewayzen_core::{Gatewayd, StepError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::image::Volume;

/// The tag that says of which fleet a machine is.
pub const FLEET_TAG: &str = "gatewayzen:fleet";
/// The tag that says which row a machine is for.
pub const GATEWAYD_TAG: &str = "gatewayzen:gatewayd";
/// The tag with that row's name, for people.
pub const NAME_TAG: &str = "gatewayzen:gatewayd-name";
/// The tag that says which attempt launched a machine.
pub const ATTEMPT_TAG: &str = "gatewayzen:attempt";

/// How far from the instance its metadata may be asked for: only from itself. User data stands there too.
const METADATA_HOPS: i32 = 1;

/// Everything that a launch sends but for its client token and its user data, which are stored beside it.
///
/// A replay after a crash must be this and nothing else, whatever the configuration says by then: under the
/// same token EC2 refuses any other request. So nothing that is sent may come from anywhere else, and a request that
/// a newer version stored is not understood in part: an older one does not send it, but looks for its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// The AMI.
    pub image: String,
    /// The instance type.
    pub instance_type: String,
    /// The subnet; `None`: the account's default.
    pub subnet: Option<String>,
    /// The security groups' ids; none: the network's default.
    pub security_groups: Vec<String>,
    /// EC2's name of the fleet's SSH key; `None`: no key.
    pub key_name: Option<String>,
    /// The instance profile's name or ARN; `None`: no role.
    pub instance_profile: Option<String>,
    /// Whether the metadata service wants a session token (IMDSv2): `required` or `optional`.
    pub metadata_tokens: String,
    /// How many network hops the metadata service answers over; `None` in requests that were stored before there was a
    /// choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_hops: Option<i32>,
    /// The AMI's volumes, each to be encrypted; none in requests that were stored before that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// The KMS key that encrypts them; `None`: the account's own for EBS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_key: Option<String>,
    /// Tags of the instance and of its volumes, in the order in which they are sent.
    pub tags: Vec<(String, String)>,
}

impl LaunchRequest {
    /// The request for a row, as the configuration and the row want it now; its volumes are still to be filled in.
    ///
    /// # Errors
    /// The row asks for what the configuration does not have or allow, or there is no AMI.
    pub fn new(
        settings: &settings::Ec2,
        row: &Gatewayd,
        fleet: Uuid,
        attempt: Uuid,
    ) -> Result<Self, StepError> {
        let tags = [
            ("Name", "gatewayzen:gatewayd".to_owned()),
            (FLEET_TAG, fleet.to_string()),
            (GATEWAYD_TAG, row.id.to_string()),
            (NAME_TAG, row.name.clone()),
            (ATTEMPT_TAG, attempt.to_string()),
        ];
        Ok(LaunchRequest {
            image: image(settings, row)?,
            instance_type: instance_type(settings, row)?,
            subnet: unless_empty(&settings.subnet),
            security_groups: settings.security_groups.clone(),
            key_name: unless_empty(&settings.key_name),
            instance_profile: unless_empty(&settings.instance_profile),
            metadata_tokens: HttpTokensState::Required.as_str().to_owned(),
            metadata_hops: Some(METADATA_HOPS),
            volumes: Vec::new(),
            volume_key: unless_empty(&settings.volume_key),
            tags: tags.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        })
    }

    /// The call: exactly this request under this token, with this user data.
    pub fn call(&self, client: &Client, token: &str, user_data: &SecretBytes) -> RunInstancesFluentBuilder {
        let profile = self.instance_profile.as_ref().map(|profile| {
            let specification = IamInstanceProfileSpecification::builder();
            if profile.starts_with("arn:") {
                specification.arn(profile)
            } else {
                specification.name(profile)
            }
            .build()
        });
        let metadata = InstanceMetadataOptionsRequest::builder()
            .http_tokens(HttpTokensState::from(self.metadata_tokens.as_str()))
            .set_http_put_response_hop_limit(self.metadata_hops)
            .build();
        client
            .run_instances()
            .client_token(token)
            .user_data(BASE64.encode(user_data.expose()))
            .min_count(1)
            .max_count(1)
            .image_id(&self.image)
            .instance_type(InstanceType::from(self.instance_type.as_str()))
            .set_subnet_id(self.subnet.clone())
            .set_security_group_ids((!self.security_groups.is_empty()).then(|| self.security_groups.clone()))
            .set_key_name(self.key_name.clone())
            .set_iam_instance_profile(profile)
            .metadata_options(metadata)
            .set_block_device_mappings(self.encrypted())
            .tag_specifications(self.tagged(ResourceType::Instance))
            .tag_specifications(self.tagged(ResourceType::Volume))
    }

    fn encrypted(&self) -> Option<Vec<BlockDeviceMapping>> {
        let volume = |volume: &Volume| {
            let disk = EbsBlockDevice::builder()
                .encrypted(true)
                .set_kms_key_id(self.volume_key.clone())
                .set_volume_size(volume.size)
                .build();
            BlockDeviceMapping::builder()
                .device_name(&volume.device)
                .ebs(disk)
                .build()
        };
        (!self.volumes.is_empty()).then(|| self.volumes.iter().map(volume).collect())
    }

    fn tagged(&self, what: ResourceType) -> TagSpecification {
        let tags = self
            .tags
            .iter()
            .map(|(key, value)| Tag::builder().key(key).value(value).build());
        TagSpecification::builder()
            .resource_type(what)
            .set_tags(Some(tags.collect()))
            .build()
    }

    /// What would be launched, for operators: "ami-1 (t3.small, in subnet-1)".
    pub fn summary(&self) -> String {
        let place = self
            .subnet
            .as_ref()
            .map(|subnet| format!(", in {subnet}"))
            .unwrap_or_default();
        format!("{} ({}{place})", self.image, self.instance_type)
    }
}

/// The row's own AMI, or that of the release it asks for, or the golden one.
fn image(settings: &settings::Ec2, row: &Gatewayd) -> Result<String, StepError> {
    if let Some(ami) = &row.ami {
        let known = *ami == settings.ami
            || settings.allowed_amis.contains(ami)
            || settings.releases.values().any(|known| known == ami);
        return if known {
            Ok(ami.clone())
        } else {
            Err(StepError::permanent(
                format!("the row asks for the AMI {ami}, which the configuration does not allow"),
                "Write another `ami` (or NULL, for the golden one), or add it to ec2.allowed_amis; then retry.",
            ))
        };
    }
    if let Some(release) = &row.release {
        return settings.releases.get(release).cloned().ok_or_else(|| {
            let known: Vec<&str> = settings.releases.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            StepError::permanent(
                format!("the row asks for the release {release}, and no AMI is configured for it (there are: {known})"),
                "Add the release and its AMI to ec2.releases, or write another `release` (or NULL, for the golden \
                 AMI's); then retry.",
            )
        });
    }
    unless_empty(&settings.ami).ok_or_else(|| {
        StepError::permanent(
            "no golden AMI is configured (ec2.ami is empty)",
            "Set ec2.ami, then retry.",
        )
    })
}

fn instance_type(settings: &settings::Ec2, row: &Gatewayd) -> Result<String, StepError> {
    match &row.instance_type {
        Some(wanted)
            if *wanted == settings.instance_type || settings.allowed_instance_types.contains(wanted) =>
        {
            Ok(wanted.clone())
        }
        Some(wanted) => Err(StepError::permanent(
            format!("the row asks for the instance type {wanted}, which the configuration does not allow"),
            "Write another `instance_type` (or NULL, for the default), or add it to ec2.allowed_instance_types; then \
             retry.",
        )),
        None => unless_empty(&settings.instance_type).ok_or_else(|| {
            StepError::permanent(
                "no instance type is configured (ec2.instance_type is empty)",
                "Set it, then retry.",
            )
        }),
    }
}

fn unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;

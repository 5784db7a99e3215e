//! The volumes that an AMI brings, so that a launch can have each of them encrypted.

use std::collections::HashMap;

use aws_sdk_ec2::Client;
use gatewayzen_core::StepError;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::errors::{Failure, Meaning};
use crate::sentences::mend;

const CALL: &str = "DescribeImages";
/// EC2's limit of volumes of one instance is far below this; whoever tells more is not EC2.
const MOST_VOLUMES: usize = 64;

/// A volume of an AMI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The AMI's own name for it: any other name would attach a second volume, and leave this one as it is.
    pub device: String,
    /// In GiB, as the AMI has it.
    pub size: Option<i32>,
}

/// What EC2 said of AMIs. It never changes for one AMI, so each is asked for once by one process.
#[derive(Debug)]
pub(crate) struct Images {
    client: Client,
    known: Mutex<HashMap<String, Vec<Volume>>>,
}

impl Images {
    pub(crate) fn new(client: Client) -> Images {
        Images {
            client,
            known: Mutex::default(),
        }
    }

    /// Every EBS volume that this AMI brings.
    ///
    /// # Errors
    /// EC2 does not tell, or the AMI has none: then a launch could not be encrypted.
    pub(crate) async fn volumes(&self, image: &str) -> Result<Vec<Volume>, StepError> {
        // Held over the call: of many launches at once one asks, and the others take its answer.
        let mut known = self.known.lock().await;
        if let Some(volumes) = known.get(image) {
            return Ok(volumes.clone());
        }
        let call = Box::pin(self.client.describe_images().image_ids(image).send());
        let answer = call
            .await
            .map_err(|error| refused(image, &Failure::new(CALL, &error)))?;
        let images = answer.images.unwrap_or_default();
        let Some(found) = images.into_iter().find(|one| one.image_id() == Some(image)) else {
            return Err(StepError::permanent(
                format!("EC2 shows no AMI {image} to this account, so what volumes it brings is not known"),
                mend("InvalidAMIID"),
            ));
        };
        let mappings = found.block_device_mappings.unwrap_or_default();
        let volumes: Vec<Volume> = mappings
            .into_iter()
            .filter_map(|mapping| {
                let size = mapping.ebs?.volume_size;
                let device = mapping.device_name.filter(|name| is_device(name))?;
                Some(Volume { device, size })
            })
            .take(MOST_VOLUMES)
            .collect();
        if volumes.is_empty() {
            return Err(StepError::permanent(
                format!("the AMI {image} brings no EBS volume, so its disk cannot be encrypted"),
                "Use an AMI whose root device is on EBS (ec2.ami, the row's `ami`, or ec2.releases); then retry.",
            ));
        }
        known.insert(image.to_owned(), volumes.clone());
        Ok(volumes)
    }
}

/// `/dev/sda1`, `xvda`: the name goes back to EC2 and nowhere else.
fn is_device(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte))
}

fn refused(image: &str, failure: &Failure) -> StepError {
    if failure.meaning != Meaning::Refused {
        return failure.step_error();
    }
    StepError::permanent(
        format!("the AMI {image} cannot be read: {}", failure.sentence()),
        mend(&failure.code),
    )
    .with_context(&failure.message)
}

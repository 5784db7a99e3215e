//! RunInstances: the client token's promise, and what a new instance is made of.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::ec2::{Ec2, Known, ROOT_DEVICE};
use super::faults::FaultKind;
use super::form::{Form, Refusal};
use super::host::{GATEWAYD_TAG, Host};
use super::instance::{Death, Instance, Launch};
use super::ledger::Event;
use super::{Disk, lock};

impl Ec2 {
    pub(super) fn run_instances(&self, form: &Form) -> Result<String, Refusal> {
        Ok(self.launch(form)?.reservation_xml())
    }

    /// Launches one instance, or gives the one that this token already has.
    pub(super) fn launch(&self, form: &Form) -> Result<Arc<Instance>, Refusal> {
        let config = &self.shared.config;
        let token = form.get("ClientToken").unwrap_or_default().to_owned();
        if token.len() > 64 || !token.is_ascii() {
            return Err(Refusal::new(
                "InvalidParameterValue",
                "A ClientToken has at most 64 ASCII characters",
            ));
        }
        let mut known = lock(&self.known);
        // A token outlives its instance: whoever repeats it gets the terminated one.
        if let Some((parameters, number)) = known.tokens.get(&token) {
            if *parameters != form.without_token() {
                let message = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).";
                return Err(Refusal::new("IdempotentParameterMismatch", message));
            }
            let instance = known.instances[number].clone();
            self.shared
                .record(&instance.host, Event::LaunchRepeated { token });
            return Ok(instance);
        }
        let image = form.get("ImageId").unwrap_or_default();
        let Some(release) = config.images.get(image) else {
            let message = format!("The image id '[{image}]' does not exist");
            return Err(Refusal::new("InvalidAMIID.NotFound", message));
        };
        if form.get("MinCount") != Some("1") || form.get("MaxCount") != Some("1") {
            let message = "The simulated EC2 launches one instance for a call: MinCount and MaxCount are 1";
            return Err(Refusal::new("InvalidParameterValue", message));
        }
        let number = known.instances.len() as u64;
        let mut random = fastrand::Rng::with_seed(config.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        // The number makes it unique, the seed makes it look like one.
        let id = format!("i-{:09x}{:08x}", random.u64(..1 << 36), number);
        let tags = tags(form);
        let gatewayd = tags.get(GATEWAYD_TAG).cloned().unwrap_or_default();
        let targets = [id.as_str(), gatewayd.as_str()];
        let address = if self.shared.faults.happens(&targets, &FaultKind::NoAddress) {
            None
        } else {
            Some(self.new_address(&mut known, form.get("PrivateIpAddress"))?)
        };
        let dies = self.shared.faults.take(&targets, |kind| match kind {
            FaultKind::DiesPending => Some(Death::Pending),
            FaultKind::DiesRunning { ms } => Some(Death::Running(Duration::from_millis(*ms))),
            _ => None,
        });
        let gone = self.shared.stop.child_token();
        let user_data = form.get("UserData").unwrap_or_default();
        let host = Arc::new(Host::new(id, gatewayd, address, user_data, release, random, gone));
        lock(&host.machine).admits.push(self.shared.fleet_key.clone());
        let launch = Launch {
            number,
            token: token.clone(),
            image: image.to_owned(),
            instance_type: form.get("InstanceType").unwrap_or("m1.small").to_owned(),
            key_name: form.get("KeyName").unwrap_or_default().to_owned(),
            tags: tags.clone(),
            disks: disks(form),
            metadata_tokens: form
                .get("MetadataOptions.HttpTokens")
                .unwrap_or("optional")
                .to_owned(),
        };
        let instance = Arc::new(Instance::new(launch, &self.shared, host));
        known.instances.insert(number, instance.clone());
        if !token.is_empty() {
            known.tokens.insert(token.clone(), (form.without_token(), number));
        }
        drop(known);
        self.shared.record(
            &instance.host,
            Event::Launched {
                token,
                image: image.to_owned(),
                tags,
            },
        );
        let life = instance.clone().live(self.shared.clone(), dies);
        tokio::spawn(self.shared.stop.clone().run_until_cancelled_owned(life));
        Ok(instance)
    }

    fn new_address(&self, known: &mut Known, wanted: Option<&str>) -> Result<Ipv4Addr, Refusal> {
        let address = if let Some(text) = wanted {
            let address = text
                .parse()
                .ok()
                .filter(|address| self.network.offset(*address).is_some());
            let message = format!("Address {text} does not fall within the subnet's address range");
            address.ok_or_else(|| Refusal::new("InvalidParameterValue", message))?
        } else {
            // Never used twice: an old client can then not meet a new host.
            let free = (known.next_offset..self.network.size())
                .filter_map(|offset| self.network.address(offset))
                .find(|address| !known.addresses.contains(address));
            let message = format!("The simulated network {} has no free address left", self.network);
            free.ok_or_else(|| Refusal::new("InsufficientFreeAddressesInSubnet", message))?
        };
        if !known.addresses.insert(address) {
            return Err(Refusal::new(
                "InvalidIPAddress.InUse",
                format!("Address {address} is in use."),
            ));
        }
        if wanted.is_none() {
            known.next_offset = self.network.offset(address).unwrap_or_default() + 1;
        }
        Ok(address)
    }
}

/// The disks of a launch: the AMI's own, and each that a mapping of another name attaches beside it.
fn disks(form: &Form) -> Vec<Disk> {
    let disk = |device: &str| Disk {
        device: device.to_owned(),
        encrypted: false,
    };
    let mut disks = vec![disk(ROOT_DEVICE)];
    for group in form.groups("BlockDeviceMapping", "DeviceName") {
        let device = form.get(&format!("{group}.DeviceName")).unwrap_or_default();
        if disks.iter().all(|known| known.device != device) {
            disks.push(disk(device));
        }
        let encrypted = form.get(&format!("{group}.Ebs.Encrypted")) == Some("true");
        for known in disks.iter_mut().filter(|known| known.device == device) {
            known.encrypted = encrypted;
        }
    }
    disks
}

/// The tags that a launch gives to its instance.
pub(super) fn tags(form: &Form) -> BTreeMap<String, String> {
    let specifications = form.groups("TagSpecification", "ResourceType");
    specifications
        .iter()
        .filter(|group| form.get(&format!("{group}.ResourceType")) == Some("instance"))
        .flat_map(|group| form.groups(&format!("{group}.Tag"), "Key"))
        .map(|tag| {
            let part = |name| form.get(&format!("{tag}.{name}")).unwrap_or_default().to_owned();
            (part("Key"), part("Value"))
        })
        .collect()
}

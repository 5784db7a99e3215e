//! The EC2 Query API: the five calls that GatewayZen makes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Request;
use hyper::body::Bytes;

use super::faults::{FaultKind, means};
use super::form::{Form, Refusal, answer, element, items};
use super::host::GATEWAYD_TAG;
use super::instance::{Instance, State};
use super::launch::tags;
use super::ledger::Event;
use super::network::{Answer, Network};
use super::throttle::Buckets;
use super::{Shared, lock};

/// Under which name each AMI has its only volume.
pub(super) const ROOT_DEVICE: &str = "/dev/sda1";

/// EC2 and everything that was ever launched.
pub(super) struct Ec2 {
    pub(super) shared: Arc<Shared>,
    pub(super) network: Network,
    throttle: Option<Buckets>,
    pub(super) known: Mutex<Known>,
    calls: Mutex<BTreeSet<String>>,
}

#[derive(Default)]
pub(super) struct Known {
    /// In the order of their launches.
    pub(super) instances: BTreeMap<u64, Arc<Instance>>,
    /// What each client token asked for, and the number of the instance that it got.
    pub(super) tokens: HashMap<String, (BTreeMap<String, String>, u64)>,
    pub(super) addresses: HashSet<Ipv4Addr>,
    pub(super) next_offset: u32,
}

impl Ec2 {
    pub(super) fn new(shared: Arc<Shared>, network: Network) -> Self {
        Self {
            throttle: shared.config.throttle.map(Buckets::new),
            shared,
            network,
            known: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Every action that was asked for, and those that an action needs the right to beside its own.
    pub(super) fn calls(&self) -> BTreeSet<String> {
        lock(&self.calls).clone()
    }

    pub(super) fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn instances(&self) -> Vec<Arc<Instance>> {
        lock(&self.known).instances.values().cloned().collect()
    }

    /// Answers one call.
    pub(super) fn call(&self, request: &Request<Bytes>) -> Answer {
        let form = Form::parse(request.body());
        let action = form.get("Action").unwrap_or_default();
        // EC2 asks for this right too where a launch carries tags.
        let tags = form.get("TagSpecification.1.ResourceType").map(|_| "CreateTags");
        lock(&self.calls).extend([action].into_iter().chain(tags).map(str::to_owned));
        let outcome = self.admit(request, &form, action).and_then(|()| match action {
            "RunInstances" => self.run_instances(&form),
            "DescribeInstances" => self.describe_instances(&form),
            "TerminateInstances" => self.terminate_instances(&form),
            "DescribeImages" => self.describe_images(&form),
            "DescribeRegions" => {
                let region = element("regionName", "us-east-1") + &element("regionEndpoint", "simulated");
                Ok(items("regionInfo", [region]))
            }
            other => Err(Refusal::new(
                "InvalidAction",
                format!("The simulated EC2 does not know the action {other:?}"),
            )),
        });
        let lost = |kind: &FaultKind| match kind {
            FaultKind::Ec2LosesReply { action: wanted } if means(wanted, action) => Some(()),
            _ => None,
        };
        match outcome {
            Err(refusal) => refusal.answer(),
            Ok(_) if self.fault(&form, lost).is_some() => None,
            Ok(inside) => answer(action, &inside),
        }
    }

    /// Credentials, injected refusals, and the dry run: what EC2 judges before the call itself.
    fn admit(&self, request: &Request<Bytes>, form: &Form, action: &str) -> Result<(), Refusal> {
        let header = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let Some(header) = header else {
            return Err(Refusal::new(
                "MissingAuthenticationToken",
                "Request is missing Authentication Token",
            ));
        };
        let credential = header
            .split_once("Credential=")
            .and_then(|(_, rest)| rest.split('/').next());
        if credential != Some(self.shared.config.access_key_id.as_str()) {
            let message = "AWS was not able to validate the provided access credentials";
            return Err(Refusal::new("AuthFailure", message));
        }
        if self
            .throttle
            .as_ref()
            .is_some_and(|buckets| !buckets.admit(action))
        {
            self.shared.faults.count("throttled");
            return Err(Refusal::new("RequestLimitExceeded", "Request limit exceeded."));
        }
        let refused = |kind: &FaultKind| match kind {
            FaultKind::Ec2Error { code, action: wanted } if means(wanted, action) => Some(code.clone()),
            _ => None,
        };
        if let Some(code) = self.fault(form, refused) {
            return Err(Refusal::new(
                code.clone(),
                format!("Simulated {code} for {action}"),
            ));
        }
        if form.get("DryRun") == Some("true") {
            let message = "Request would have succeeded, but DryRun flag is set.";
            return Err(Refusal::new("DryRunOperation", message));
        }
        Ok(())
    }

    /// A fault for whoever the call names: by instance id, by gatewayd's tag, or by a filter on either.
    fn fault<T>(&self, form: &Form, pick: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        let mut targets = form.list("InstanceId");
        for (name, values) in filters(form) {
            if name == "instance-id" || name.strip_prefix("tag:") == Some(GATEWAYD_TAG) {
                targets.extend(values);
            }
        }
        let named: HashSet<_> = targets.iter().cloned().collect();
        let known = lock(&self.known);
        targets.extend(
            known
                .instances
                .values()
                .filter(|one| named.contains(&one.id))
                .map(|one| one.host.gatewayd.clone()),
        );
        drop(known);
        targets.extend(tags(form).remove(GATEWAYD_TAG));
        let targets: Vec<_> = targets.iter().map(String::as_str).collect();
        self.shared.faults.take(&targets, pick)
    }

    fn describe_instances(&self, form: &Form) -> Result<String, Refusal> {
        let ids = form.list("InstanceId");
        let page = form
            .get("MaxResults")
            .map(|text| text.parse::<usize>().unwrap_or(0));
        if page.is_some_and(|page| !(5..=1000).contains(&page)) {
            return Err(Refusal::new(
                "InvalidParameterValue",
                "MaxResults is a number from 5 to 1000",
            ));
        }
        if page.is_some() && !ids.is_empty() {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(Refusal::new("InvalidParameterCombination", message));
        }
        let from = match form.get("NextToken") {
            None => 0,
            Some(text) => text
                .strip_prefix("from-")
                .and_then(|number| number.parse().ok())
                .ok_or_else(|| Refusal::new("InvalidNextToken", format!("The token {text:?} is invalid")))?,
        };
        let filters = filters(form);
        for (name, _) in &filters {
            if !matches!(
                name.as_str(),
                "instance-id" | "instance-state-name" | "client-token"
            ) && !name.starts_with("tag:")
            {
                let message = format!("The filter '{name}' is invalid");
                return Err(Refusal::new("InvalidParameterValue", message));
            }
        }
        let mut found = self.visible();
        self.all_exist(&ids, &found)?;
        found.retain(|instance| {
            let named = ids.is_empty() || ids.contains(&instance.id);
            named
                && instance.number >= from
                && filters
                    .iter()
                    .all(|(name, values)| matches(instance, name, values))
        });
        let next = page
            .and_then(|page| found.get(page))
            .map(|instance| instance.number);
        found.truncate(page.unwrap_or(usize::MAX));
        let mut xml = items(
            "reservationSet",
            found.iter().map(|instance| instance.reservation_xml()),
        );
        if let Some(next) = next {
            xml += &element("nextToken", &format!("from-{next}"));
        }
        Ok(xml)
    }

    fn terminate_instances(&self, form: &Form) -> Result<String, Refusal> {
        let ids = form.list("InstanceId");
        let mut found = self.visible();
        self.all_exist(&ids, &found)?;
        found.retain(|instance| ids.contains(&instance.id));
        let changes = found.iter().map(|instance| {
            self.shared.record(&instance.host, Event::TerminateAsked);
            let (before, after) = instance.terminate();
            element("instanceId", &instance.id) + &after.xml("currentState") + &before.xml("previousState")
        });
        Ok(items("instancesSet", changes))
    }

    fn describe_images(&self, form: &Form) -> Result<String, Refusal> {
        let images = &self.shared.config.images;
        let wanted = form.list("ImageId");
        if let Some(missing) = wanted.iter().find(|image| !images.contains_key(*image)) {
            let message = format!("The image id '[{missing}]' does not exist");
            return Err(Refusal::new("InvalidAMIID.NotFound", message));
        }
        let filters = filters(form);
        let found = images.iter().filter(|(image, _)| {
            (wanted.is_empty() || wanted.contains(image))
                && filters
                    .iter()
                    .all(|(name, values)| name != "image-id" || values.contains(*image))
        });
        Ok(items(
            "imagesSet",
            found.map(|(image, release)| {
                element("imageId", image)
                    + &element("imageState", "available")
                    + &element("name", &format!("simulated gatewayd {release}"))
                    + &element("rootDeviceType", "ebs")
                    + &element("rootDeviceName", ROOT_DEVICE)
                    + &items(
                        "blockDeviceMapping",
                        [element("deviceName", ROOT_DEVICE) + "<ebs><volumeSize>8</volumeSize></ebs>"],
                    )
            }),
        ))
    }

    fn visible(&self) -> Vec<Arc<Instance>> {
        let visible_for = Duration::from_millis(self.shared.config.times.terminated_visible_ms);
        let mut all = self.instances();
        all.retain(|instance| instance.visible(visible_for));
        all
    }

    fn all_exist(&self, ids: &[String], visible: &[Arc<Instance>]) -> Result<(), Refusal> {
        let visible: HashSet<_> = visible.iter().map(|instance| instance.id.as_str()).collect();
        let missing: Vec<_> = ids
            .iter()
            .map(String::as_str)
            .filter(|id| !visible.contains(id))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!("The instance IDs '{}' do not exist", missing.join(", "));
        Err(Refusal::new("InvalidInstanceID.NotFound", message))
    }
}

fn filters(form: &Form) -> Vec<(String, HashSet<String>)> {
    let groups = form.groups("Filter", "Name");
    groups
        .iter()
        .map(|group| {
            let name = form.get(&format!("{group}.Name")).unwrap_or_default();
            let values = form.list(&format!("{group}.Value"));
            (name.to_owned(), values.into_iter().collect())
        })
        .collect()
}

fn matches(instance: &Instance, filter: &str, values: &HashSet<String>) -> bool {
    let value = match filter {
        "instance-id" => Some(instance.id.as_str()),
        "client-token" => Some(instance.token.as_str()),
        "instance-state-name" => Some(State::name(instance.state())),
        tag => instance
            .visible_tags()
            .and_then(|tags| tags.get(tag.strip_prefix("tag:")?))
            .map(String::as_str),
    };
    value.is_some_and(|value| values.contains(value))
}

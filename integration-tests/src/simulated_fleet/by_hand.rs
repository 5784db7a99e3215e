//! What is done to a fleet by hand, over HTTP or by a test's call: the simulation's own doors, below `/_sim`.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::{Method, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ec2::Ec2;
use super::form::{Form, Refusal};
use super::instance::Instance;
use super::network::{self, Answer};
use super::{DEFAULT_IMAGE, Shared, hosts, lock};

/// What a body says that means one instance.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    instance: String,
}

/// What a body says that launches a machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stray {
    tags: BTreeMap<String, String>,
}

impl Ec2 {
    /// The instance of this id.
    pub(super) fn instance(&self, id: &str) -> Option<Arc<Instance>> {
        let known = lock(&self.known);
        known.instances.values().find(|one| one.id == id).cloned()
    }

    /// Launches a machine with these tags, as somebody else than GatewayZen might; its instance id.
    pub(super) fn launch_stray(&self, tags: &[(&str, &str)]) -> Result<String, Refusal> {
        let image = self.shared.config.images.keys().next();
        let form = Form::of_launch(image.map_or(DEFAULT_IMAGE, String::as_str), tags);
        Ok(self.launch(&form)?.id.clone())
    }

    /// Reboots a host. False: there is none of this id, or its SSH is not up.
    pub(super) fn reboot(&self, id: &str) -> bool {
        let instance = self.instance(id);
        let rebooted = instance.is_some_and(|instance| instance.host.reboot(&self.shared));
        if rebooted {
            self.shared.faults.count("reboot");
        }
        rebooted
    }

    /// Ends an instance as EC2 does by itself. False: there is none of this id, or its end has come or been asked for.
    pub(super) fn kill(&self, id: &str) -> bool {
        let instance = self.instance(id);
        let died = instance.is_some_and(|instance| instance.die(&self.shared));
        if died {
            self.shared.faults.count("kill");
        }
        died
    }
}

/// Why something is not done: a status and a sentence.
type Refused = (u16, String);

/// The endpoint: EC2 at `/`, the simulation's own doors below `/_sim`.
pub(super) async fn answer(request: Request<Bytes>, ec2: &Ec2) -> Answer {
    let (shared, body) = (&ec2.shared, request.body());
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => ec2.call(&request),
        (&Method::GET, "/_sim/ledger") => network::json(200, &shared.ledger.to_json()),
        (&Method::GET, "/_sim/hosts") => {
            network::json(200, &json!({ "simulated": true, "hosts": hosts(ec2) }))
        }
        (&Method::GET, "/_sim/faults") => network::json(200, &json!(shared.faults.list())),
        (&Method::POST, "/_sim/faults") => told(201, add_fault(body, shared)),
        (&Method::DELETE, "/_sim/faults") => {
            shared.faults.clear();
            network::json(200, &json!([]))
        }
        (&Method::POST, "/_sim/launch") => told(201, launch(body, ec2)),
        (&Method::POST, "/_sim/reboot") => {
            let not = "is not rebooted: its SSH is not up";
            told(200, with_one(body, ec2, not, |id| ec2.reboot(id)))
        }
        (&Method::POST, "/_sim/kill") => {
            let not = "is not killed: its end has come or been asked for";
            told(200, with_one(body, ec2, not, |id| ec2.kill(id)))
        }
        _ => {
            let doors = "the simulated fleet has POST / (EC2); GET /_sim/ledger and /_sim/hosts; GET, POST and DELETE \
                         /_sim/faults; POST /_sim/launch, /_sim/reboot and /_sim/kill";
            network::json(404, &json!({ "error": doors }))
        }
    }
}

fn told(status: u16, outcome: Result<Value, Refused>) -> Answer {
    match outcome {
        Ok(value) => network::json(status, &value),
        Err((status, why)) => network::json(status, &json!({ "error": why })),
    }
}

fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| (400, format!("not {what}: {error}")))
}

fn add_fault(body: &[u8], shared: &Shared) -> Result<Value, Refused> {
    shared.faults.add(read(body, "a fault")?);
    Ok(json!(shared.faults.list()))
}

fn launch(body: &[u8], ec2: &Ec2) -> Result<Value, Refused> {
    let stray: Stray = read(body, r#"a launch, such as {"tags": {"Name": "stray"}}"#)?;
    let tags = stray.tags.iter();
    let tags: Vec<(&str, &str)> = tags.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    match ec2.launch_stray(&tags) {
        Ok(id) => Ok(json!({ "instance": id })),
        Err(refusal) => Err((409, refusal.to_string())),
    }
}

/// Does something to the instance that the body names; `not` says why it was not done.
fn with_one(body: &[u8], ec2: &Ec2, not: &str, does: impl Fn(&str) -> bool) -> Result<Value, Refused> {
    let One { instance } = read(
        body,
        r#"an instance, such as {"instance": "i-01234567800000000"}"#,
    )?;
    if ec2.instance(&instance).is_none() {
        let why = format!("there is no instance {instance:?}; GET /_sim/hosts lists them");
        return Err((404, why));
    }
    if does(&instance) {
        Ok(json!({ "instance": instance }))
    } else {
        Err((409, format!("instance {instance} {not}")))
    }
}

//! One instance as EC2 shows it, and its life from launch to its end.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use super::faults::FaultKind;
use super::form::{element, items};
use super::host::Host;
use super::ledger::Event;
use super::{Disk, Shared, lock};

/// An instance state of EC2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
        }
    }

    pub(super) fn xml(self, element_name: &str) -> String {
        let code = match self {
            Self::Pending => "0",
            Self::Running => "16",
            Self::ShuttingDown => "32",
            Self::Terminated => "48",
        };
        format!(
            "<{element_name}>{}{}</{element_name}>",
            element("code", code),
            element("name", self.name())
        )
    }
}

/// When EC2 ends an instance by itself.
pub(super) enum Death {
    Pending,
    /// So long after it came to run.
    Running(Duration),
}

/// EC2's code and message for why an instance is in its state.
type Reason = (&'static str, &'static str);

const DIED_PENDING: Reason = (
    "Server.InternalError",
    "Server.InternalError: Internal error on launch",
);
/// What EC2 says of a spot instance that it took back.
const TAKEN_BACK: Reason = (
    "Server.SpotInstanceTermination",
    "Server.SpotInstanceTermination: Spot instance termination",
);

/// What changes in an instance's life.
struct Life {
    state: State,
    reason: Option<Reason>,
    ended: Option<Instant>,
}

/// One instance.
pub(super) struct Instance {
    pub(super) id: String,
    /// Its place in the order of launches.
    pub(super) number: u64,
    pub(super) token: String,
    pub(super) image: String,
    pub(super) instance_type: String,
    pub(super) key_name: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) disks: Vec<Disk>,
    pub(super) metadata_tokens: String,
    /// None: it never gets one.
    pub(super) address: Option<Ipv4Addr>,
    pub(super) launched: Instant,
    pub(super) launched_at: OffsetDateTime,
    pub(super) id_lag: Duration,
    pub(super) tag_lag: Duration,
    /// Its end has been asked for: everything of it stops.
    pub(super) gone: CancellationToken,
    pub(super) host: Arc<Host>,
    life: Mutex<Life>,
}

impl Instance {
    pub(super) fn new(launch: Launch, shared: &Shared, host: Arc<Host>) -> Self {
        let (times, faults) = (&shared.config.times, &shared.faults);
        let targets = host.targets();
        let id_lag = faults.take(&targets, |kind| match kind {
            FaultKind::IdLag { ms } => Some(*ms),
            _ => None,
        });
        let tag_lag = faults.take(&targets, |kind| match kind {
            FaultKind::TagLag { ms } => Some(*ms),
            _ => None,
        });
        Self {
            id: host.instance.clone(),
            number: launch.number,
            token: launch.token,
            image: launch.image,
            instance_type: launch.instance_type,
            key_name: launch.key_name,
            tags: launch.tags,
            disks: launch.disks,
            metadata_tokens: launch.metadata_tokens,
            address: host.address,
            launched: Instant::now(),
            launched_at: OffsetDateTime::now_utc(),
            id_lag: Duration::from_millis(id_lag.unwrap_or(times.id_lag_ms)),
            tag_lag: Duration::from_millis(tag_lag.unwrap_or(times.tag_lag_ms)),
            gone: host.gone.clone(),
            host,
            life: Mutex::new(Life {
                state: State::Pending,
                reason: None,
                ended: None,
            }),
        }
    }

    pub(super) fn state(&self) -> State {
        lock(&self.life).state
    }

    /// Whether EC2 admits that it exists: not before its lag, and not long after its end.
    pub(super) fn visible(&self, terminated_visible: Duration) -> bool {
        let forgotten = lock(&self.life)
            .ended
            .is_some_and(|ended| ended.elapsed() > terminated_visible);
        self.launched.elapsed() >= self.id_lag && !forgotten
    }

    /// The tags that EC2 shows by now.
    pub(super) fn visible_tags(&self) -> Option<&BTreeMap<String, String>> {
        (self.launched.elapsed() >= self.tag_lag).then_some(&self.tags)
    }

    /// Asks for its end; gives the states before and after.
    pub(super) fn terminate(&self) -> (State, State) {
        let mut life = lock(&self.life);
        let before = life.state;
        if matches!(before, State::Pending | State::Running) {
            life.state = State::ShuttingDown;
            life.reason = Some((
                "Client.UserInitiatedShutdown",
                "Client.UserInitiatedShutdown: User initiated shutdown",
            ));
            self.gone.cancel();
        }
        (before, life.state)
    }

    /// The whole life: boot, host, end.
    pub(super) async fn live(self: Arc<Self>, shared: Arc<Shared>, death: Option<Death>) {
        let times = &shared.config.times;
        let boot = self.host.vary(times.boot_ms, times);
        let life = async {
            if matches!(death, Some(Death::Pending)) {
                tokio::time::sleep(boot / 2).await;
                self.die(&shared);
                return;
            }
            tokio::time::sleep(boot).await;
            if !self.run() {
                return;
            }
            shared.record(&self.host, Event::Running);
            if let Some(Death::Running(after)) = death {
                let (dying, shared) = (self.clone(), shared.clone());
                let gone = self.gone.clone();
                tokio::spawn(gone.run_until_cancelled_owned(async move {
                    tokio::time::sleep(after).await;
                    dying.die(&shared);
                }));
            }
            if self.address.is_some() {
                tokio::time::sleep(self.host.vary(times.ssh_ms, times)).await;
                self.host.clone().up(shared.clone(), self.launched).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        self.gone.run_until_cancelled(life).await;
        if self.state() == State::ShuttingDown {
            tokio::time::sleep(self.host.vary(times.terminate_ms, times)).await;
            let mut life = lock(&self.life);
            (life.state, life.ended) = (State::Terminated, Some(Instant::now()));
            // Recorded before anybody can see it, so that the ledger never has its successor first.
            shared.record(&self.host, Event::Terminated);
            drop(life);
        }
    }

    fn run(&self) -> bool {
        let mut life = lock(&self.life);
        if life.state == State::Pending {
            life.state = State::Running;
        }
        life.state == State::Running
    }

    /// EC2 ends it by itself, at once. False: its end has come or been asked for already.
    pub(super) fn die(&self, shared: &Shared) -> bool {
        let mut life = lock(&self.life);
        let reason = match life.state {
            State::Pending => DIED_PENDING,
            State::Running => TAKEN_BACK,
            State::ShuttingDown | State::Terminated => return false,
        };
        *life = Life {
            state: State::Terminated,
            reason: Some(reason),
            ended: Some(Instant::now()),
        };
        // Recorded before anybody can see it, so that the ledger never has its successor first.
        shared.record(&self.host, Event::Died);
        drop(life);
        self.gone.cancel();
        true
    }

    /// The instance inside its reservation.
    pub(super) fn reservation_xml(&self) -> String {
        let reservation = format!("r-{}", self.id.trim_start_matches("i-"));
        element("reservationId", &reservation)
            + &element("ownerId", "000000000000")
            + "<groupSet/>"
            + &items("instancesSet", [self.xml()])
    }

    fn xml(&self) -> String {
        let life = lock(&self.life);
        let mut xml = element("instanceId", &self.id)
            + &element("imageId", &self.image)
            + &life.state.xml("instanceState");
        xml += &element("instanceType", &self.instance_type);
        xml += &element(
            "launchTime",
            &self.launched_at.format(&Rfc3339).unwrap_or_default(),
        );
        if !self.token.is_empty() {
            xml += &element("clientToken", &self.token);
        }
        if !self.key_name.is_empty() {
            xml += &element("keyName", &self.key_name);
        }
        if let Some(address) = self
            .address
            .filter(|_| matches!(life.state, State::Pending | State::Running))
        {
            xml += &element("privateIpAddress", &address.to_string());
            // One address for both, so that the host is reached however a fleet is told to dial.
            if life.state == State::Running {
                xml += &element("ipAddress", &address.to_string());
            }
        }
        if let Some((code, message)) = life.reason {
            xml += &format!(
                "<stateReason>{}{}</stateReason>",
                element("code", code),
                element("message", message)
            );
        }
        if let Some(tags) = self.visible_tags() {
            xml += &items(
                "tagSet",
                tags.iter()
                    .map(|(key, value)| element("key", key) + &element("value", value)),
            );
        }
        xml
    }
}

/// The choices of a launch.
pub(super) struct Launch {
    pub(super) number: u64,
    pub(super) token: String,
    pub(super) image: String,
    pub(super) instance_type: String,
    pub(super) key_name: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) disks: Vec<Disk>,
    pub(super) metadata_tokens: String,
}

//! What can be made to go wrong, for whom and how often.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::lock;

/// One fault in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What goes wrong.
    pub fault: FaultKind,
    /// The gatewayd's id (its tag) or the instance's id that it is for. Absent: everybody.
    #[serde(default)]
    pub target: Option<String>,
    /// How many times it happens. Absent: until it is cleared.
    #[serde(default)]
    pub times: Option<u32>,
    /// How likely it is each time, 0 to 1.
    #[serde(default = "always")]
    pub probability: f64,
}

fn always() -> f64 {
    1.0
}

impl Fault {
    /// A fault for everybody, until it is cleared.
    #[must_use]
    pub fn new(fault: FaultKind) -> Self {
        Self {
            fault,
            target: None,
            times: None,
            probability: 1.0,
        }
    }

    /// The same fault for one gatewayd (the value of its tag) or one instance id.
    #[must_use]
    pub fn on(mut self, target: impl ToString) -> Self {
        self.target = Some(target.to_string());
        self
    }

    /// The same fault for the next `times` occasions only.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }
}

/// What goes wrong. An `action` or `command` that is absent means any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// EC2 refuses a call with this code, such as `InsufficientInstanceCapacity`, `RequestLimitExceeded`,
    /// `UnauthorizedOperation`. A target matches a call that names it (by id, tag or filter).
    Ec2Error {
        /// The code of the error.
        code: String,
        /// The call, such as `RunInstances`.
        action: Option<String>,
    },
    /// EC2 carries the call out and closes the connection without an answer.
    Ec2LosesReply {
        /// The call, such as `RunInstances`.
        action: Option<String>,
    },
    /// A launched instance's id is not found for so long.
    IdLag {
        /// Milliseconds.
        ms: u64,
    },
    /// A launched instance shows no tags for so long.
    TagLag {
        /// Milliseconds.
        ms: u64,
    },
    /// A launched instance runs and never has an address.
    NoAddress,
    /// A launched instance goes from `pending` to `terminated`.
    DiesPending,
    /// EC2 ends a launched instance by itself, so long after it came to run.
    DiesRunning {
        /// Milliseconds.
        ms: u64,
    },

    /// The host accepts a connection and never says anything.
    HostNeverAnswers,
    /// The host resets a connection as soon as it is made.
    ConnectionReset,
    /// The host cuts its SSH connections and refuses new ones for so long.
    ConnectionRefused {
        /// Milliseconds.
        ms: u64,
    },
    /// The host never answers the wish to run a command, after the login.
    SessionHangs,
    /// The host has another SSH key than the one in its user data.
    WrongHostKey,
    /// The host shows the SSH key of its user data, whichever it has: somebody who read that stands between.
    LaunchHostKey,
    /// The host refuses the fleet's key.
    RefusesUserKey,
    /// A command never ends. The host's lock stays taken until the client hangs up.
    CommandHangs {
        /// The command's name.
        command: Option<String>,
    },
    /// A command writes 200 MB to its standard output.
    CommandFloods {
        /// The command's name.
        command: Option<String>,
    },
    /// The host reboots in the middle of a command, before its effect.
    CommandReboots {
        /// The command's name.
        command: Option<String>,
    },
    /// A command takes effect and prints this in place of its output.
    CommandPrints {
        /// The command's name.
        command: Option<String>,
        /// Its standard output.
        text: String,
    },
    /// The disk is full: the number of a new lease cannot be kept, so no command of that lease runs; a command of a lease that
    /// the host has heard before does nothing and fails if it writes; gatewayd saves nothing.
    DiskFull,
    /// A command is held up on its way: it comes to the host so much later, whatever has become of who sent it.
    CommandHeldUp {
        /// The command's name.
        command: Option<String>,
        /// Milliseconds.
        ms: u64,
    },
    /// A command takes effect and the connection closes before its answer.
    CommandLosesReply {
        /// The command's name.
        command: Option<String>,
    },
    /// A command does nothing and exits with this status (124 a remote timeout, 75 a lock not had).
    CommandExits {
        /// The command's name.
        command: Option<String>,
        /// The exit status.
        status: u32,
    },
    /// A command has its whole effect, prints its output, and ends with this status all the same: gatewayd's `stop` never exits,
    /// so that `timeout` ends it (124), and its `get_key` prints the key and exits 8 or 1. What fails by itself ends as it does.
    CommandEndsBadly {
        /// The command's name.
        command: Option<String>,
        /// The exit status.
        status: u32,
    },
    /// `get_key` prints no key.
    NoKey,
    /// `start` leaves processes that never listen.
    NeverListens,
    /// `start` leaves so many of gatewayd's five processes, at least one, and they never listen.
    StartLeavesProcesses {
        /// How many.
        processes: u32,
    },
    /// `stop` leaves the processes running.
    StopLeavesProcess,
    /// `checkout` leaves the old release in place.
    KeepsOldRelease,
    /// `saved_wallet` prints this address.
    WrongSavedWallet {
        /// The address, as printed.
        address: String,
    },

    /// gatewayd answers 401 to everybody.
    Api401,
    /// gatewayd answers 500 with HTML.
    ApiHtml500,
    /// gatewayd answers 200 with HTML.
    ApiHtml200,
    /// gatewayd closes the connection without an answer.
    ApiCloses,
    /// gatewayd answers late.
    ApiSlow {
        /// Milliseconds.
        ms: u64,
    },
    /// Whoever answers at gatewayd's port has another certificate than the host's.
    OtherCertificate,
    /// gatewayd has this cold wallet already.
    OtherWallet {
        /// The address.
        address: String,
    },
}

impl FaultKind {
    /// Its name as configured; with the code of an EC2 error, since those have nothing else in common.
    fn name(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
        match (text("kind"), text("code")) {
            (Some(kind), Some(code)) => format!("{kind} {code}"),
            (kind, _) => kind.unwrap_or_default().to_owned(),
        }
    }
}

/// The faults in force.
pub(super) struct Faults {
    in_force: Mutex<(Vec<Fault>, fastrand::Rng)>,
    happened: Mutex<BTreeMap<String, u64>>,
}

impl Faults {
    pub(super) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        Self {
            in_force: Mutex::new((faults, fastrand::Rng::with_seed(seed))),
            happened: Mutex::default(),
        }
    }

    /// Counts something that went wrong.
    pub(super) fn count(&self, name: impl Into<String>) {
        *lock(&self.happened).entry(name.into()).or_default() += 1;
    }

    /// How often each kind has happened.
    pub(super) fn happened(&self) -> BTreeMap<String, u64> {
        lock(&self.happened).clone()
    }

    /// Whether something of this likelihood, 0 to 1, happens now.
    pub(super) fn chance(&self, probability: f64) -> bool {
        probability > 0.0 && lock(&self.in_force).1.f64() < probability
    }

    pub(super) fn add(&self, fault: Fault) {
        lock(&self.in_force).0.push(fault);
    }

    pub(super) fn clear(&self) {
        lock(&self.in_force).0.clear();
    }

    pub(super) fn list(&self) -> Vec<Fault> {
        lock(&self.in_force).0.clone()
    }

    /// The first fault for one of these targets that `pick` knows. It counts as having happened.
    pub(super) fn take<T>(&self, targets: &[&str], pick: impl Fn(&FaultKind) -> Option<T>) -> Option<T> {
        let mut guard = lock(&self.in_force);
        let (faults, random) = &mut *guard;
        for fault in faults.iter_mut() {
            let ours = fault
                .target
                .as_deref()
                .is_none_or(|target| targets.contains(&target));
            let Some(picked) = pick(&fault.fault).filter(|_| ours && fault.times != Some(0)) else {
                continue;
            };
            if fault.probability < 1.0 && random.f64() >= fault.probability {
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            let name = fault.fault.name();
            drop(guard);
            self.count(name);
            return Some(picked);
        }
        None
    }

    /// Whether exactly this fault happens now.
    pub(super) fn happens(&self, targets: &[&str], kind: &FaultKind) -> bool {
        self.any(targets, |fault| fault == kind)
    }

    /// Whether a fault of this description happens now.
    pub(super) fn any(&self, targets: &[&str], is: impl Fn(&FaultKind) -> bool) -> bool {
        self.take(targets, |fault| is(fault).then_some(())).is_some()
    }
}

/// Whether a fault's optional `action` or `command` means this one.
pub(super) fn means(wanted: &Option<String>, name: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == name)
}

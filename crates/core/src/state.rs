//! The state machine: every state, its step, and every legal move.
//!
//! The same table stands in Postgres (`migrations/0002_states.sql`), where a trigger enforces it, and as a
//! diagram in the README. A test proves that the three are the same.

use std::fmt;
use std::str::FromStr;

/// A state of a gatewayd: the column `gatewayds.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Imagined only: no computing resource exists.
    New,
    /// An EC2 instance is being launched.
    Instance,
    /// The API key is being read, and the host's TLS certificate made.
    Key,
    /// The gatewayd processes are being started.
    Start,
    /// The cold wallet's address is being set.
    Wallet,
    /// Ready to make money.
    Live,
    /// The gatewayd processes are being stopped.
    Stop,
    /// Not running.
    Stopped,
    /// gatewayd is being brought to another release.
    Update,
    /// The EC2 instance is being ended.
    Terminate,
    /// No computing resource exists any more; row, wallet and history stay.
    Terminated,
}

/// The step of a working state. Its name is the Resque queue and the Resque class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Launch from the golden AMI and wait for an address.
    InitializeEc2Instance,
    /// Read the API key, make the TLS certificate, record the release.
    RetrieveApiKey,
    /// Start gatewayd and see it answer.
    StartGatewayd,
    /// Set the cold wallet's address.
    SetColdWallet,
    /// Stop gatewayd and see it down.
    StopGatewayd,
    /// Bring gatewayd to the release asked for.
    UpdateGatewayd,
    /// End the instance and see it end.
    TerminateEc2Instance,
}

/// Who may make a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mover {
    /// A write of the column `state` by anybody.
    External,
    /// The worker that finished the state's step.
    Worker,
}

impl State {
    /// Every state, in the order in which a walk meets them.
    pub const ALL: [State; 11] = [
        State::New,
        State::Instance,
        State::Key,
        State::Start,
        State::Wallet,
        State::Live,
        State::Stop,
        State::Stopped,
        State::Update,
        State::Terminate,
        State::Terminated,
    ];

    /// The name in Postgres.
    pub const fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Instance => "instance",
            State::Key => "key",
            State::Start => "start",
            State::Wallet => "wallet",
            State::Live => "live",
            State::Stop => "stop",
            State::Stopped => "stopped",
            State::Update => "update",
            State::Terminate => "terminate",
            State::Terminated => "terminated",
        }
    }

    /// The step that this state's worker takes; `None` for an idle state.
    pub const fn step(self) -> Option<Step> {
        match self {
            State::Instance => Some(Step::InitializeEc2Instance),
            State::Key => Some(Step::RetrieveApiKey),
            State::Start => Some(Step::StartGatewayd),
            State::Wallet => Some(Step::SetColdWallet),
            State::Stop => Some(Step::StopGatewayd),
            State::Update => Some(Step::UpdateGatewayd),
            State::Terminate => Some(Step::TerminateEc2Instance),
            State::New | State::Live | State::Stopped | State::Terminated => None,
        }
    }

    /// The state that follows when the step is done; `None` for an idle state.
    pub const fn after_step(self) -> Option<State> {
        match self {
            State::Instance => Some(State::Key),
            State::Key => Some(State::Start),
            State::Start => Some(State::Wallet),
            State::Wallet => Some(State::Live),
            State::Stop | State::Update => Some(State::Stopped),
            State::Terminate => Some(State::Terminated),
            State::New | State::Live | State::Stopped | State::Terminated => None,
        }
    }

    /// The states to which an external write may move a row in this state.
    pub const fn external_moves(self) -> &'static [State] {
        match self {
            State::New => &[State::Instance, State::Terminate],
            State::Live => &[State::Stop, State::Update, State::Terminate],
            State::Stopped => &[State::Start, State::Update, State::Terminate],
            State::Terminated => &[State::Instance],
            State::Terminate => &[],
            State::Instance | State::Key | State::Start | State::Wallet | State::Stop | State::Update => {
                &[State::Terminate]
            }
        }
    }

    /// Whether a worker has something to do in this state.
    pub const fn is_working(self) -> bool {
        self.step().is_some()
    }

    /// Who may move a row from this state to `to`; `None` when nobody may.
    pub fn mover(self, to: State) -> Option<Mover> {
        if self.after_step() == Some(to) {
            Some(Mover::Worker)
        } else if self.external_moves().contains(&to) {
            Some(Mover::External)
        } else {
            None
        }
    }
}

impl Step {
    /// Every step.
    pub const ALL: [Step; 7] = [
        Step::InitializeEc2Instance,
        Step::RetrieveApiKey,
        Step::StartGatewayd,
        Step::SetColdWallet,
        Step::StopGatewayd,
        Step::UpdateGatewayd,
        Step::TerminateEc2Instance,
    ];

    /// The name of the queue, which is also the Resque class.
    pub const fn queue(self) -> &'static str {
        match self {
            Step::InitializeEc2Instance => "initializeEc2Instance",
            Step::RetrieveApiKey => "retrieveApiKey",
            Step::StartGatewayd => "startGatewayd",
            Step::SetColdWallet => "setColdWallet",
            Step::StopGatewayd => "stopGatewayd",
            Step::UpdateGatewayd => "updateGatewayd",
            Step::TerminateEc2Instance => "terminateEc2Instance",
        }
    }

    /// The service that takes this step.
    pub const fn worker(self) -> &'static str {
        match self {
            Step::InitializeEc2Instance | Step::TerminateEc2Instance => "instance-worker",
            Step::SetColdWallet => "wallet-worker",
            Step::RetrieveApiKey | Step::StartGatewayd | Step::StopGatewayd | Step::UpdateGatewayd => {
                "ssh-worker"
            }
        }
    }

    /// The state in which a row waits for this step.
    pub const fn state(self) -> State {
        match self {
            Step::InitializeEc2Instance => State::Instance,
            Step::RetrieveApiKey => State::Key,
            Step::StartGatewayd => State::Start,
            Step::SetColdWallet => State::Wallet,
            Step::StopGatewayd => State::Stop,
            Step::UpdateGatewayd => State::Update,
            Step::TerminateEc2Instance => State::Terminate,
        }
    }

    /// The step of a queue, or `None` when no step has that name.
    pub fn from_queue(queue: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.queue() == queue)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.queue())
    }
}

/// A text that is no state.
#[derive(Debug, thiserror::Error)]
#[error("there is no state `{0}`; the states are {states}", states = State::ALL.map(State::name).join(", "))]
pub struct UnknownState(pub String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        State::ALL
            .into_iter()
            .find(|state| state.name() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for state in State::ALL {
            assert_eq!(state.name().parse::<State>().unwrap(), state);
        }
        let error = "lively".parse::<State>().unwrap_err().to_string();
        assert!(error.contains("`lively`") && error.contains("live"), "{error}");
    }

    #[test]
    fn a_step_and_its_state_name_each_other() {
        for step in Step::ALL {
            assert_eq!(step.state().step(), Some(step));
            assert_eq!(Step::from_queue(step.queue()), Some(step));
        }
    }
}

//! Faults of `RunInstances` of which several stories tell.

use integration_tests::simulated_fleet::{Fault, FaultKind};

fn run_instances() -> Option<String> {
    Some("RunInstances".to_owned())
}

/// One launch happens, and its answer is lost.
pub(crate) fn loses_an_answer() -> Fault {
    let lost = FaultKind::Ec2LosesReply {
        action: run_instances(),
    };
    Fault::new(lost).times(1)
}

pub(crate) fn refuses(code: &str) -> FaultKind {
    FaultKind::Ec2Error {
        code: code.to_owned(),
        action: run_instances(),
    }
}

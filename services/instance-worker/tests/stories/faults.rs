//! Faults of `RunInstances` of which several stories tell.

use integration_tests::simulated_fleet::FaultKind;

pub(crate) fn run_instances() -> Option<String> {
    Some("RunInstances".to_owned())
}

pub(crate) fn refuses(code: &str) -> FaultKind {
    FaultKind::Ec2Error {
        code: code.to_owned(),
        action: run_instances(),
    }
}

//! EC2 and hosts misbehave: faults in the simulated fleet, on and off, and machines that reboot and die.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::simulated_fleet::{Fault, FaultKind};

/// Changes the faults in force every few seconds, and reboots and kills machines, until told to stop.
pub(super) async fn trouble(world: Arc<World>, mut random: fastrand::Rng, stop: CancellationToken) {
    let fleet = &world.bed.fleet;
    loop {
        let sleep = tokio::time::sleep(Duration::from_millis(random.u64(1000..5000)));
        if stop.run_until_cancelled(sleep).await.is_none() {
            break;
        }
        fleet.clear_faults();
        // A moment of peace now and then, or walks would hardly ever end.
        if random.u32(..5) == 0 {
            continue;
        }
        for (kind, probability) in faults() {
            if random.bool() {
                let mut fault = Fault::new(kind);
                fault.probability = probability * (0.5 + random.f64());
                fleet.fault(fault);
            }
        }
        if random.u32(..3) == 0 {
            let hosts = fleet.hosts();
            let alive: Vec<_> = hosts.iter().filter(|host| host.state == "running").collect();
            if !alive.is_empty() {
                let chosen = &alive[random.usize(..alive.len())].instance;
                match random.u32(..3) {
                    0 => fleet.kill(chosen),
                    _ => fleet.reboot(chosen),
                };
            }
        }
    }
    fleet.clear_faults();
}

/// What may go wrong, and how likely it is each time. Nothing here is a lie that lasts: a foreign wallet or key that a
/// host holds for ever would rightly park its row for ever.
fn faults() -> Vec<(FaultKind, f64)> {
    let refuses = |code: &str, action: Option<&str>| FaultKind::Ec2Error {
        code: code.to_owned(),
        action: action.map(str::to_owned),
    };
    let loses = |action: &str| FaultKind::Ec2LosesReply {
        action: Some(action.to_owned()),
    };
    let exits = |status| FaultKind::CommandExits {
        command: None,
        status,
    };
    vec![
        (refuses("InsufficientInstanceCapacity", Some("RunInstances")), 0.3),
        (refuses("RequestLimitExceeded", None), 0.2),
        (refuses("InternalError", None), 0.2),
        (refuses("Unavailable", None), 0.1),
        (refuses("UnauthorizedOperation", None), 0.1),
        (loses("RunInstances"), 0.3),
        (loses("TerminateInstances"), 0.3),
        (loses("DescribeInstances"), 0.1),
        (FaultKind::IdLag { ms: 1500 }, 0.3),
        (FaultKind::TagLag { ms: 1500 }, 0.3),
        (FaultKind::NoAddress, 0.02),
        (FaultKind::DiesPending, 0.1),
        (FaultKind::DiesRunning { ms: 3000 }, 0.05),
        (FaultKind::HostNeverAnswers, 0.05),
        (FaultKind::ConnectionReset, 0.1),
        (FaultKind::ConnectionRefused { ms: 1500 }, 0.05),
        (FaultKind::SessionHangs, 0.05),
        (FaultKind::WrongHostKey, 0.02),
        (FaultKind::RefusesUserKey, 0.02),
        (FaultKind::CommandHangs { command: None }, 0.03),
        (FaultKind::CommandLosesReply { command: None }, 0.1),
        (exits(1), 0.05),
        (exits(75), 0.05),
        (exits(124), 0.05),
        (
            FaultKind::CommandEndsBadly {
                command: None,
                status: 8,
            },
            0.05,
        ),
        (FaultKind::CommandReboots { command: None }, 0.02),
        (
            FaultKind::CommandPrints {
                command: None,
                text: "Segmentation fault\n".to_owned(),
            },
            0.03,
        ),
        (FaultKind::DiskFull, 0.05),
        (FaultKind::NoKey, 0.1),
        (FaultKind::NeverListens, 0.1),
        (FaultKind::StartLeavesProcesses { processes: 1 }, 0.1),
        (FaultKind::StopLeavesProcess, 0.2),
        (FaultKind::KeepsOldRelease, 0.2),
        (
            FaultKind::WrongSavedWallet {
                address: "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh".to_owned(),
            },
            0.03,
        ),
        (FaultKind::Api401, 0.05),
        (FaultKind::ApiHtml500, 0.1),
        (FaultKind::ApiHtml200, 0.05),
        (FaultKind::ApiCloses, 0.1),
        (FaultKind::ApiSlow { ms: 2500 }, 0.05),
        (FaultKind::OtherCertificate, 0.03),
    ]
}

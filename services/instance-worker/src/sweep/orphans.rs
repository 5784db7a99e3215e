//! One way of the sweep: machines that no row claims.

use std::collections::HashMap;

use gatewayzen_core::repository::SweepLease;
use gatewayzen_core::sweep::{Comparison, Fate, LetAlone, Machine, Orphan, Report, Verdict};

use super::{Sweeper, refuse};
use crate::end::{Asked, ask_to_terminate};
use crate::steps::{seconds, stamp};

impl Sweeper {
    /// Sorts the living machines by their verdicts, and gives every orphan the fate that needs no call to EC2.
    pub(super) fn sort(
        &self,
        lease: &SweepLease,
        living: Vec<Machine>,
        comparison: Comparison,
        report: &mut Report,
    ) {
        let mut machines: HashMap<String, Machine> = living
            .into_iter()
            .map(|one| (one.instance_id.clone(), one))
            .collect();
        for judged in comparison.machines {
            let Some(mut machine) = machines.remove(&judged.instance_id) else {
                continue;
            };
            machine.name = judged.name.or(machine.name);
            let why = judged.why.unwrap_or_default();
            match judged.verdict {
                Verdict::Claimed => report.claimed += 1,
                Verdict::Unknown => report.unknown.push(LetAlone { machine, why }),
                Verdict::Held | Verdict::Busy => report.let_alone.push(LetAlone { machine, why }),
                Verdict::Orphan => {
                    let marked_for = judged.marked_for.filter(|_| judged.marked_before);
                    let ends_at = judged.marked_at.map(|at| at + self.settings.grace);
                    let (fate, note) = match marked_for {
                        _ if report.refusal.is_some() => (Fate::Refused, None),
                        None => (
                            Fate::Marked,
                            Some(format!(
                                "ended by a sweep at least {} later",
                                seconds(self.settings.grace)
                            )),
                        ),
                        Some(age) if age < self.settings.grace.as_secs_f64() => (
                            Fate::Waits,
                            ends_at.map(|at| format!("ended by a sweep after {}", stamp(at))),
                        ),
                        // Due, if the cap allows it.
                        Some(_) => (Fate::Ended, None),
                    };
                    report.orphans.push(Orphan {
                        machine,
                        why,
                        marked_at: judged.marked_at,
                        fate,
                        note,
                    });
                }
            }
        }
        report.most = lease
            .most
            .and_then(|most| u32::try_from(most).ok())
            .unwrap_or_else(|| self.settings.cap(report.claimed));
        report.due = report.count(Fate::Ended);
    }

    /// Ends the orphans whose turn it is: all of them, or none where they are more than one sweep may end.
    pub(super) async fn end_orphans(&self, lease: &SweepLease, refused: bool, report: &mut Report) {
        if refused || report.due == 0 {
            return;
        }
        if report.due > report.most as usize {
            for orphan in report
                .orphans
                .iter_mut()
                .filter(|orphan| orphan.fate == Fate::Ended)
            {
                orphan.fate = Fate::OverTheCap;
            }
            let sentence = format!(
                "{due} machines are due to be ended and one sweep of {claimed} claimed machines ends at most {most} \
                 (sweep.most, sweep.most_share), so it ends none. Look at each of them, then `gatewayzen sweep --act --most \
                 {due}`",
                due = report.due,
                claimed = report.claimed,
                most = report.most
            );
            return refuse(report, sentence);
        }
        if !lease.act {
            return;
        }
        let most = report.most;
        for orphan in report
            .orphans
            .iter_mut()
            .filter(|orphan| orphan.fate == Fate::Ended)
        {
            (orphan.fate, orphan.note) = self.end(lease, &orphan.machine, most).await;
            let (instance, fate) = (&orphan.machine.instance_id, orphan.fate);
            tracing::warn!(
                sweep = lease.id,
                instance,
                why = orphan.why,
                ?fate,
                note = orphan.note,
                "orphan"
            );
        }
    }

    /// Ends one, if the database still says so.
    async fn end(&self, lease: &SweepLease, machine: &Machine, most: u32) -> (Fate, Option<String>) {
        // Guards against what happened since the comparison: nothing may come between this look and the call.
        match self
            .repository
            .end_orphan(lease, machine, self.settings.grace, most)
            .await
        {
            Ok(None) => {}
            Ok(Some(why)) => return (Fate::Spared, Some(why)),
            Err(error) => return (Fate::Failed, Some(error.to_string())),
        }
        match ask_to_terminate(&self.client, &machine.instance_id).await {
            Ok(Asked::Taken) => (Fate::Ended, None),
            Ok(Asked::Unknown) => (Fate::Spared, Some("EC2 does not know it any more".into())),
            Err(failure) => (Fate::Failed, Some(failure.sentence())),
        }
    }
}

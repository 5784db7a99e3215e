//! An ssh-worker that is killed at every point asked for, and started anew.

use std::collections::BTreeSet;
use std::time::Duration;

use integration_tests::harness::{Bed, ServiceProcess};

/// The one service that a test kills, stopping at points of which each is met once.
pub(crate) struct Mortal<'a> {
    pub(crate) bed: &'a Bed,
    left: BTreeSet<String>,
    environment: Vec<(String, String)>,
    process: ServiceProcess,
    /// How much of the log was there before.
    read: usize,
    pub(crate) deaths: usize,
}

impl<'a> Mortal<'a> {
    pub(crate) fn start(
        bed: &'a Bed,
        left: BTreeSet<String>,
        environment: Vec<(String, String)>,
    ) -> Mortal<'a> {
        let process = Self::process(bed, &left, &environment);
        let read = process.log().len();
        Mortal {
            bed,
            left,
            environment,
            process,
            read,
            deaths: 0,
        }
    }

    pub(crate) fn process(
        bed: &Bed,
        left: &BTreeSet<String>,
        environment: &[(String, String)],
    ) -> ServiceProcess {
        let stops = format!("{:?}", left.iter().collect::<Vec<_>>());
        let mut all: Vec<(&str, &str)> = environment
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        all.push(("GATEWAYZEN_TESTING__STOP_AT", &stops));
        bed.start_with("ssh-worker", &all)
    }

    /// Kills it wherever it stops, and starts it anew, until the work is done. Nobody died at these points in vain.
    pub(crate) async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
            if self.process.is_stopped() {
                self.process.kill().await;
                self.deaths += 1;
                let log = self.process.log();
                let new = &log[self.read..];
                self.left
                    .retain(|point| !new.contains(&format!("point=\"{point}\"")));
                self.process = Self::process(self.bed, &self.left, &self.environment);
            }
        };
        assert_eq!(self.left, BTreeSet::new(), "nobody died there");
        done
    }
}

pub(crate) fn around(prefix: &str, effects: &[&str]) -> BTreeSet<String> {
    let moments = |effect| ["before", "after"].map(|moment| format!("{prefix}:{effect}:{moment}"));
    effects.iter().flat_map(moments).collect()
}

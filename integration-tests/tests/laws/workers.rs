//! Workers that stop at named points, and are killed there by their pid.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use integration_tests::harness::{Bed, Options, PATIENCE, ServiceProcess, eventually};
pub(crate) use integration_tests::harness::{CIRCLE, SERVICES, new_row, walk, walk_round, write};
use integration_tests::simulated_fleet::{Config, Times};

/// Leases of two seconds, and more attempts than there are crashes.
const SETTINGS: &str = "worker.max_attempts = 1000\nworker.lease = \"2s\"\nworker.look_again = \"1s\"\n\
    ec2.allowed_amis = []\nec2.send_for = \"60s\"\nec2.consistency_window = \"2s\"\n";

/// A fleet whose machines do everything in a moment.
pub(crate) async fn bed(fleet: Config, more: &str) -> Bed {
    let times = Times {
        command_ms: 5,
        ..fleet.times.clone()
    };
    let options = Options {
        fleet: Config { times, ..fleet },
        settings: format!("{SETTINGS}{more}"),
        ..Options::default()
    };
    Bed::new(options).await
}

/// The services of a bed, which stop at points and are killed there, each point as often as it stands in `stops`.
pub(crate) struct Killer<'a> {
    bed: &'a Bed,
    /// `WORK:EFFECT:MOMENT`, and how many deaths there are still to be.
    stops: BTreeMap<String, usize>,
    running: BTreeMap<&'static str, ServiceProcess>,
    /// How much of each service's log was read.
    read: BTreeMap<&'static str, usize>,
    pub(crate) kills: usize,
}

impl<'a> Killer<'a> {
    pub(crate) fn start(bed: &'a Bed, stops: BTreeMap<String, usize>) -> Killer<'a> {
        let (running, read) = Default::default();
        let mut killer = Killer {
            bed,
            stops,
            running,
            read,
            kills: 0,
        };
        for name in SERVICES {
            killer.start_one(name);
        }
        killer
    }

    fn start_one(&mut self, name: &'static str) {
        let service = start_with_stops(self.bed, name, self.stops.keys());
        self.read.entry(name).or_insert(0);
        self.running.insert(name, service);
    }

    /// Whether somebody must still die in the steps of this row.
    pub(crate) fn waits_for(&self, id: i64) -> bool {
        let prefix = format!("{id}:");
        self.stops.keys().any(|point| point.starts_with(&prefix))
    }

    /// Somebody must die in the steps of the row `to` where nobody has died yet in those of `from`. From the next
    /// [`restart`](Self::restart) on.
    pub(crate) fn instead(&mut self, from: i64, to: i64) {
        let prefix = format!("{from}:");
        let stops = std::mem::take(&mut self.stops).into_iter();
        self.stops = stops
            .map(|(point, left)| match point.strip_prefix(&prefix) {
                Some(effect) => {
                    println!("nobody died at {point}: row {to} is to meet it");
                    (format!("{to}:{effect}"), left)
                }
                None => (point, left),
            })
            .collect();
    }

    /// Kills and starts every service, which stop then where somebody must still die.
    pub(crate) async fn restart(&mut self) {
        for name in SERVICES {
            let service = self.running.get_mut(name).expect("started");
            service.kill().await;
            self.start_one(name);
        }
    }

    /// Points at which nobody has died as often as was asked for.
    pub(crate) fn missed(&self) -> Vec<&String> {
        self.stops.keys().collect()
    }

    /// Kills each process that stands at a point and starts it anew, until the work is done.
    pub(crate) async fn until<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(10)) => self.look().await,
            }
        }
    }

    /// Goes on until somebody has died at each point, or for as long as a test is patient: see [`Killer::missed`].
    pub(crate) async fn until_nothing_is_missed(&mut self) {
        let begun = Instant::now();
        while !self.stops.is_empty() && begun.elapsed() < PATIENCE {
            self.look().await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn look(&mut self) {
        for name in SERVICES {
            if !self.running[name].is_stopped() {
                continue;
            }
            let service = self.running.get_mut(name).expect("started");
            service.kill().await;
            self.kills += 1;
            let log = service.log();
            for point in points_in(&log[self.read[name]..], "stopped at a crash point") {
                if let Some(left) = self.stops.get_mut(&point) {
                    *left -= 1;
                    if *left == 0 {
                        self.stops.remove(&point);
                    }
                }
            }
            self.read.insert(name, log.len());
            self.start_one(name);
        }
    }
}

/// Starts a service that stops itself at these points.
pub(crate) fn start_with_stops<'s>(
    bed: &Bed,
    name: &str,
    stops: impl IntoIterator<Item = &'s String>,
) -> ServiceProcess {
    let stops: Vec<String> = stops.into_iter().map(|stop| format!("{stop:?}")).collect();
    let stops = format!("[{}]", stops.join(","));
    bed.start_with(name, &[("GATEWAYZEN_TESTING__STOP_AT", &stops)])
}

/// The points that a log names in lines of this kind.
pub(crate) fn points_in(log: &str, kind: &str) -> BTreeSet<String> {
    log.lines()
        .filter(|line| line.contains(kind))
        .filter_map(|line| Some(line.split_once("point=\"")?.1.split('"').next()?.to_owned()))
        .collect()
}

/// The crash points that one row meets on its way round the circle, as `STATE:EFFECT:MOMENT`; and those of no row, as
/// `dispatcher:EFFECT:MOMENT`, or `sweep:…` for the looks whether a sweep is to be done.
pub(crate) async fn scout() -> BTreeSet<String> {
    let bed = bed(
        Config::default(),
        "telemetry.log = \"info,gatewayzen_core::crash=trace\"\n",
    )
    .await;
    let services = bed.start_all();
    let id = new_row(&bed, "scout").await;
    walk_round(&bed, id).await;
    // A dispatcher parks nothing in its first two seconds: it may not have come to that yet.
    eventually("the dispatcher to park what is overdue", async || {
        let mut logs = services.iter().map(ServiceProcess::log);
        logs.any(|log| log.contains("dispatcher:push_failed:after"))
            .then_some(())
    })
    .await;
    let own = format!("{id}:");
    services
        .iter()
        .flat_map(|service| points_in(&service.log(), "crash point"))
        // A renewal happens only in a step that is slow, as the law makes one.
        .filter(|point| !point.contains(":renew_lease:"))
        .map(|point| point.strip_prefix(&own).unwrap_or(&point).to_owned())
        .collect()
}

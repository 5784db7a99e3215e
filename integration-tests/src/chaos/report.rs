//! What a run came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::judge::{Broken, Evidence};

/// The figures of one run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// `chaos` or `walk`.
    pub kind: &'static str,
    /// Where all randomness came from.
    pub seed: u64,
    /// How long the troubles lasted; nothing for a walk.
    pub minutes: f64,
    /// Rows at the end.
    pub gatewayds: usize,
    /// From the first write to the moment when all had settled, or were live.
    pub seconds: f64,
    /// Moves of state, all of them.
    pub transitions: usize,
    /// Moves a second, over `seconds`.
    pub transitions_per_second: f64,
    /// Faults that the simulated fleet injected, by kind.
    pub machine_faults: BTreeMap<String, u64>,
    /// What the driver did to processes, servers, rows and queues, by kind.
    pub deeds: BTreeMap<String, u64>,
    /// All faults: those of machines, and signals, outages and garbage.
    pub faults: u64,
    /// The most memory that any process of each service ever held, in kB.
    pub peak_memory_kb: BTreeMap<&'static str, u64>,
    /// Processor time of all processes of each service, in seconds; of a walk alone.
    pub processor_seconds: BTreeMap<&'static str, f64>,
    /// What the rows, their histories, launches and secrets take in Postgres, indexes included, in kB a gatewayd; of a walk alone.
    pub postgres_kb_per_gatewayd: f64,
    /// The most that Redis held, in kB, over what it takes empty; of a walk alone.
    pub redis_peak_kb: f64,
    /// How often a worker came back too late and its outcome was not written: a lease lost, or a write in between.
    pub stale_outcomes: usize,
    /// Rows by state at the end.
    pub rows: BTreeMap<String, usize>,
    /// Machines ever launched.
    pub machines: usize,
    /// The laws that were broken.
    pub broken: Vec<Broken>,
}

/// The names of deeds that are faults: what only writes or pushes as it may is none.
const FAULTS: [&str; 6] = ["SIG", "Redis", "Postgres", "garbage", "foreign", "duplicate"];

impl Report {
    /// Fills in what the evidence shows.
    pub(super) fn read(&mut self, evidence: &Evidence) {
        self.gatewayds = evidence.rows.len();
        let events = evidence.histories.values().flatten();
        self.transitions = events.filter(|entry| entry.event == "moved").count();
        self.transitions_per_second = self.transitions as f64 / self.seconds.max(0.001);
        self.machines = evidence.hosts.len();
        for row in evidence.rows.values() {
            let mut state = row.state.to_string();
            if row.fault.is_some() {
                state += ", parked";
            }
            if row.hold.is_some() {
                state += ", held";
            }
            *self.rows.entry(state).or_default() += 1;
        }
        let faults = |(name, _): &(&String, &u64)| FAULTS.iter().any(|fault| name.starts_with(fault));
        self.faults = self.machine_faults.values().sum::<u64>()
            + self
                .deeds
                .iter()
                .filter(faults)
                .map(|(_, count)| count)
                .sum::<u64>();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: seed {}, {} gatewayds",
            self.kind, self.seed, self.gatewayds
        )?;
        if self.minutes > 0.0 {
            writeln!(f, "{} minutes of troubles, {} faults", self.minutes, self.faults)?;
        }
        writeln!(
            f,
            "{} transitions in {:.1} s: {:.1} a second; {} machines launched",
            self.transitions, self.seconds, self.transitions_per_second, self.machines
        )?;
        for (name, kb) in &self.peak_memory_kb {
            writeln!(f, "peak memory of {name}: {:.1} MB", *kb as f64 / 1024.0)?;
        }
        for (name, seconds) in &self.processor_seconds {
            let each = seconds * 1000.0 / self.gatewayds.max(1) as f64;
            writeln!(
                f,
                "processor time of {name}: {seconds:.1} s, {each:.1} ms a gatewayd"
            )?;
        }
        if self.postgres_kb_per_gatewayd > 0.0 {
            writeln!(
                f,
                "Postgres: {:.1} kB a gatewayd; Redis: {:.0} kB at most, over an empty one",
                self.postgres_kb_per_gatewayd, self.redis_peak_kb
            )?;
        }
        if self.minutes > 0.0 {
            writeln!(
                f,
                "outcomes of stale workers, none of them written: {}",
                self.stale_outcomes
            )?;
        }
        table(f, "rows at the end", &self.rows)?;
        table(f, "faults of machines", &self.machine_faults)?;
        table(f, "deeds of the driver", &self.deeds)?;
        for broken in &self.broken {
            let row = broken.row.map(|id| format!(" row {id}:")).unwrap_or_default();
            writeln!(f, "BROKEN {}:{row} {}", broken.law, broken.what)?;
        }
        match self.broken.len() {
            0 => write!(f, "no law is broken"),
            count => write!(f, "{count} times a law is broken"),
        }
    }
}

fn table<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    counts: &BTreeMap<String, T>,
) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}:")?;
    for (name, count) in counts {
        writeln!(f, "  {count:>8}  {name}")?;
    }
    Ok(())
}

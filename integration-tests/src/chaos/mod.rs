//! The chaos run and the walk of a thousand: the services as processes on a fleet of simulated machines, with
//! everything going wrong or nothing, judged by the ledger and the database.

mod clients;
mod crew;
mod judge_redis;
mod machines;
mod operators;
mod outages;
mod progress;
mod proxy;
mod quiet;
mod report;
mod run;
mod strays;
mod tally;
mod walk;
mod world;
mod writers;

pub use crew::Size;
pub use report::Report;
pub use run::{Orders, run};
pub use walk::walk;
pub use world::World;

/// How many files this process may have open at once; `None` when the system does not tell.
pub fn open_files_limit() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

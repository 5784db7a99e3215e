//! The chaos run, and with `--walk` the walk of a thousand, on private servers and a simulated fleet.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use integration_tests::chaos::{Orders, Report, Size, World, open_files_limit, run, walk};
use integration_tests::judge::Evidence;

/// A fleet in all walks at once while everything goes wrong; then quiet, and the judge. Exit status 0: no law is
/// broken.
#[derive(Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// How long things go wrong.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Rows at the beginning.
    #[arg(long, default_value_t = 100)]
    gatewayds: i64,
    /// Where all randomness comes from; drawn and printed where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Processes of each of the three workers.
    #[arg(long)]
    workers: Option<usize>,
    /// Dispatchers.
    #[arg(long)]
    dispatchers: Option<usize>,
    /// In place of all that: so many rows walk from `new` to `live` with nothing going wrong.
    #[arg(long, value_name = "GATEWAYDS")]
    walk: Option<i64>,
    /// Writes report.json here, and, should a law be broken, the ledger, the services' logs and the stories of the
    /// rows.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let gatewayds = arguments.walk.unwrap_or(arguments.gatewayds);
    // A host has two ports and a few connections open at a time, most of them at both ends in one process.
    let needed = u64::try_from(gatewayds).unwrap_or(0) * 6 + 1000;
    if let Some(limit) = open_files_limit().filter(|limit| *limit < needed) {
        eprintln!(
            "chaos: {gatewayds} gatewayds need {needed} open files and the limit is {limit}: run `ulimit -n {needed}` first"
        );
        return ExitCode::from(64);
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let several = if arguments.walk.is_some() { 1 } else { 2 };
    let size = Size {
        dispatchers: arguments.dispatchers.unwrap_or(several),
        workers: arguments.workers.unwrap_or(several),
    };
    println!("chaos: seed {seed}, {gatewayds} gatewayds, {size:?}");
    let (report, evidence, world) = match arguments.walk {
        Some(gatewayds) => walk(seed, gatewayds, size).await,
        None => {
            let orders = Orders {
                seed,
                time: Duration::from_secs_f64(arguments.minutes * 60.0),
                gatewayds,
                size,
            };
            run(orders).await
        }
    };
    tell(&report, &evidence);
    if let Some(folder) = &arguments.keep
        && let Err(error) = keep(folder, &report, &evidence, &world)
    {
        eprintln!("chaos: {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    if report.broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How many rows' stories are told in full.
const STORIES: usize = 5;

fn tell(report: &Report, evidence: &Evidence) {
    for id in rows(report).into_iter().take(STORIES) {
        println!("--- {}", evidence.about(id));
    }
    println!("{report}");
    println!("{}", serde_json::to_string(report).unwrap_or_default());
}

/// The rows of broken laws, each once.
fn rows(report: &Report) -> Vec<i64> {
    let mut rows: Vec<i64> = report.broken.iter().filter_map(|broken| broken.row).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn keep(folder: &Path, report: &Report, evidence: &Evidence, world: &World) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(report)?)?;
    if report.broken.is_empty() {
        return Ok(());
    }
    let stories: String = rows(report).into_iter().map(|id| evidence.about(id)).collect();
    std::fs::write(folder.join("rows.txt"), stories)?;
    std::fs::write(
        folder.join("ledger.json"),
        serde_json::to_string(&evidence.ledger)?,
    )?;
    for (name, text) in world.bed.log_files() {
        std::fs::write(folder.join(format!("{name}.log")), text)?;
    }
    Ok(())
}

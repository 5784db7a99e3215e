//! The simulated fleet as a process: EC2, hosts and gatewayds on loopback, for faults and scale.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use integration_tests::simulated_fleet::{Config, SimulatedFleet};

/// A simulated fleet: EC2 Query API, SSH hosts and gatewayd HTTPS APIs on loopback.
#[derive(Parser)]
#[command(name = "simulated-fleet")]
struct Arguments {
    /// The public key that the hosts admit (an OpenSSH .pub file).
    #[arg(long, value_name = "FILE")]
    fleet_public_key: PathBuf,
    /// Where the EC2 endpoint listens; port 0 chooses a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The hosts' network, such as 127.80.0.0/16; a free /24 where none is named.
    #[arg(long)]
    network: Option<String>,
    /// Seeds ids, keys, jitter and the dice of faults.
    #[arg(long)]
    seed: Option<u64>,
    /// Everything else (times, images, faults), as JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Writes the endpoint's URL to this file once it listens.
    #[arg(long, value_name = "FILE")]
    endpoint_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("simulated-fleet: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), String> {
    let mut config = match &arguments.config {
        Some(path) => {
            serde_json::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Config::default(),
    };
    config.fleet_public_key = read(&arguments.fleet_public_key)?;
    config.network = arguments.network.or(config.network);
    config.listen = arguments.listen.unwrap_or(config.listen);
    config.seed = arguments.seed.unwrap_or(config.seed);
    let seed = config.seed;

    let fleet = SimulatedFleet::start(config)
        .await
        .map_err(|error| error.to_string())?;
    println!(
        "simulated fleet: EC2 at {}, hosts in {}, seed {seed}",
        fleet.endpoint(),
        fleet.network()
    );
    if let Some(path) = &arguments.endpoint_file {
        std::fs::write(path, fleet.endpoint()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|error| format!("cannot listen for SIGTERM: {error}"))?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

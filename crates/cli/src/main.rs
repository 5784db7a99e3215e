//! The `gatewayzen` command.

mod args;
mod connect;
mod decommission;
mod doctor;
mod failure;
mod halts;
mod output;
mod rows;
mod secrets;
mod sweep;
mod text;
mod watch;
mod why;
mod writes;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::{CommandFactory as _, Parser as _};
use connect::Connections;
use failure::Failure;
use output::Output;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let sentence = text::clean(&failure.to_string());
            if !sentence.is_empty() {
                eprintln!("gatewayzen: {sentence}");
            }
            failure.exit_code()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let output = Output::new(cli.global.json);
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "gatewayzen", &mut script);
        return output.text(&String::from_utf8_lossy(&script));
    }
    let settings = gatewayzen_bootstrap::settings::load(cli.global.config.as_deref())?;
    let connections = Connections { settings };
    match cli.command {
        Command::Migrate { only_roles } => writes::migrate(&connections, &output, only_roles).await,
        Command::Create(args) => writes::create(&connections, &output, &args).await,
        Command::List(args) => rows::list(&connections, &output, args).await,
        Command::Show { name } => rows::show(&connections, &output, &name).await,
        Command::Why { name } => why::why(&connections, &output, &name).await,
        Command::Move(args) => writes::write_state(&connections, &output, &args).await,
        Command::Terminate(args) => decommission::terminate(&connections, &output, args).await,
        Command::Policy(args) => decommission::policy(&connections, &output, &args).await,
        Command::Retry { name, why } => writes::retry(&connections, &output, &name, why.as_deref()).await,
        Command::Hold { name, reason } => writes::hold(&connections, &output, &name, Some(&reason)).await,
        Command::Resume { name: Some(name), .. } => writes::hold(&connections, &output, &name, None).await,
        Command::Resume { name: None, why, .. } => {
            halts::resume(&connections, &output, why.as_deref().unwrap_or_default()).await
        }
        Command::Halt { why } => halts::halt(&connections, &output, &why).await,
        Command::Watch(args) => watch::watch(&connections, &output, args).await,
        Command::Sweep(args) => sweep::sweep(&connections, &output, &args).await,
        Command::Restored { why } => sweep::restored(&connections, &output, &why).await,
        Command::Enqueue { queue, id } => writes::enqueue(&connections, &output, queue, id).await,
        Command::Secrets(act) => secrets::secrets(&connections, &output, act).await,
        Command::Doctor => doctor::doctor(&connections, &output, cli.global.config.as_deref()).await,
        Command::Completions { .. } => Ok(()),
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gatewayzen_core::{State, Step};

mod identities;
mod secrets;
mod values;

pub(crate) use identities::{Identity, SshKey};
pub(crate) use secrets::{Revealed, Secrets};
use values::{duration, queues, states, yes_or_no};

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   refused or failed; one sentence on standard error says why
  2   the command line is wrong
  3   watch: a row has a fault or is on hold, short of an idle state
  4   watch: --timeout was reached
  64  the configuration is wrong
  69  Postgres or Redis cannot be reached

With --json, results are JSON on standard output: fields have the names of the
columns of the table gatewayds, times are RFC 3339 in UTC.

The settings come from gatewayzen.toml and the environment, as for the services.
Log in to Postgres as an operator: GATEWAYZEN_POSTGRES__URL or [postgres] url.";

/// Builds and maintains a fleet of gatewayd servers on AWS EC2.
#[derive(Debug, Parser)]
#[command(name = "gatewayzen", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The configuration file [default: gatewayzen.toml, if there is one here]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "GATEWAYZEN_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the database schema up to this version; a superuser once, who makes the roles, then as gatewayzen_migrator
    Migrate {
        /// Make the roles and hand the schema to gatewayzen_migrator, and run no migration
        #[arg(long)]
        only_roles: bool,
    },
    /// Create gatewayds, in state "new"
    Create(Create),
    /// List gatewayds
    List(List),
    /// Show all of one gatewayd, and its history
    Show {
        /// Which gatewayd
        name: String,
    },
    /// Say what a gatewayd is doing or waiting for, and what would unblock it
    Why {
        /// Which gatewayd
        name: String,
    },
    /// Write a gatewayd's state, which starts a walk
    Move(Move),
    /// Move a gatewayd to "terminate": end its machine for good, its hot wallet and gatewayd's own database with it
    Terminate(Terminate),
    /// Show or change what must be kept elsewhere before a gatewayd may be terminated
    Policy(Policy),
    /// Try gatewayds again that have a fault or back off
    Retry {
        /// Which gatewayds
        #[arg(required = true)]
        name: Vec<String>,
        /// For the history
        #[arg(long, value_name = "TEXT")]
        why: Option<String>,
    },
    /// Have nothing new done to a gatewayd; a step in hand ends first
    Hold {
        /// Which gatewayd
        name: String,
        /// Why, for whoever finds it on hold
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a hold, or the halt of the whole fleet
    Resume {
        /// Which gatewayd is on hold
        #[arg(required_unless_present = "fleet", conflicts_with = "fleet")]
        name: Option<String>,
        /// End the halt of the fleet: every row goes on
        #[arg(long, requires = "why")]
        fleet: bool,
        /// What was mended, for whoever reads of the halt later
        #[arg(long, value_name = "TEXT", requires = "fleet")]
        why: Option<String>,
    },
    /// Halt the whole fleet: no step begins but those of stop and terminate; steps in hand end first
    Halt {
        /// Why, for whoever finds it halted
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// Watch gatewayds walk until they are idle: a live table, or on a pipe a line for each change
    Watch(Watch),
    /// Compare the machines on EC2 with the rows: what no row claims, and rows whose machine is gone. A dry run unless told to act
    Sweep(SweepArgs),
    /// Declare that this database is the fleet's from here on, after a restore, a move or a failover
    Restored {
        /// What happened; kept for ever
        #[arg(long, value_name = "TEXT")]
        why: String,
    },
    /// What a gatewayd's machine is known by: its SSH host key and its TLS certificate
    Identity {
        #[command(subcommand)]
        act: Identity,
    },
    /// Take the fleet from one SSH key to the next, host by host
    SshKey {
        #[command(subcommand)]
        act: SshKey,
    },
    /// Push a job to a Resque queue by hand; one that its row has no use for changes nothing
    Enqueue {
        /// The queue, which is also the job's class
        #[arg(value_parser = queues())]
        queue: Step,
        /// The id of the gatewayd (see show)
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
    },
    /// Look after the sealed secrets: status, rotate, reveal, export, verify-backup
    #[command(subcommand)]
    Secrets(Secrets),
    /// Check everything that GatewayZen needs, and say what to mend
    Doctor,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Who does something that is on record, and why.
#[derive(Debug, Args)]
pub(crate) struct Act {
    /// Why; kept for ever
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Who asks; kept for ever [default: $USER]
    #[arg(long, value_name = "NAME")]
    pub(crate) person: Option<String>,
}

impl Act {
    /// Who asks: as told, or as this machine says.
    pub(crate) fn person(&self) -> Option<String> {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        self.person.clone().or_else(user)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Their names: lower-case letters, digits and inner dashes, at most 63 characters
    #[arg(required = true)]
    pub(crate) name: Vec<String>,
    /// The release of gatewayd [default: the AMI's]
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// The golden AMI; the configuration must allow it [default: the configuration's]
    #[arg(long)]
    pub(crate) ami: Option<String>,
    /// EC2's instance type; the configuration must allow it [default: the configuration's]
    #[arg(long, value_name = "TYPE")]
    pub(crate) instance_type: Option<String>,
    /// Whose they are, for the application's own use
    #[arg(long, value_name = "ID")]
    pub(crate) owner: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those in this state; may be given more than once
    #[arg(long, value_name = "STATE", value_parser = states())]
    pub(crate) state: Vec<State>,
    /// Only those with a fault
    #[arg(long)]
    pub(crate) faulty: bool,
    /// Only those on hold
    #[arg(long)]
    pub(crate) held: bool,
    /// Only those of this owner
    #[arg(long, value_name = "ID")]
    pub(crate) owner: Option<String>,
    /// At most so many, by name
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) limit: Option<i64>,
}

#[derive(Debug, Args)]
pub(crate) struct Move {
    /// Which gatewayd
    pub(crate) name: String,
    /// The state to write
    #[arg(value_parser = states())]
    pub(crate) state: State,
    /// The release to bring it to, or to build it with
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// For the history
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Terminate {
    /// Which gatewayd
    pub(crate) name: String,
    /// Although its wallet or its host is in no backup: this once, and on record
    #[arg(long, requires = "reason")]
    pub(crate) without_backup: bool,
    #[command(flatten)]
    pub(crate) act: Act,
}

#[derive(Debug, Args)]
pub(crate) struct Policy {
    /// Whether a verified backup of its cold wallet must be there
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no(), requires = "reason")]
    pub(crate) require_wallet_backup: Option<bool>,
    /// Whether its host must have been backed up, by gatewayd.backup_command in `stop`, since gatewayd was last started there
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no(), requires = "reason")]
    pub(crate) require_host_backup: Option<bool>,
    #[command(flatten)]
    pub(crate) act: Act,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// Do it: mark orphans, end those that an earlier sweep marked, park rows whose machine is gone
    #[arg(long)]
    pub(crate) act: bool,
    /// End at most so many machines [default: by sweep.most and sweep.most_share]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) most: Option<i32>,
    /// Kept with the sweep
    #[arg(long, value_name = "TEXT")]
    pub(crate) why: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Which gatewayds [default: all]
    pub(crate) name: Vec<String>,
    /// Until each is idle, has a fault or is on hold; this is the default
    #[arg(long, conflicts_with = "for_ever")]
    pub(crate) until_idle: bool,
    /// Until interrupted
    #[arg(long)]
    pub(crate) for_ever: bool,
    /// Give up after so long: 90s, 10m, 2h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
}

#[cfg(test)]
mod tests;

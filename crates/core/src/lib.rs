//! What every part of GatewayZen shares: the state machine, the job schema, sealed secrets, wallets, and the
//! Postgres repository, which is the only SQL of the project outside the migrations.

pub mod backup;
pub mod crash;
pub mod job;
pub mod repository;
pub mod seal;
pub mod state;
pub mod step;
pub mod sweep;
pub mod wallet;

pub use job::JobArgs;
pub use repository::{Gatewayd, Repository};
pub use state::{State, Step};
pub use step::{Facts, Next, StepError};

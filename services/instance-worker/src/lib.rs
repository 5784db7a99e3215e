//! The instance-worker: launches the machine of a gatewayd on EC2, sees it run, and ends it.

pub mod attempt;
pub mod client;
pub mod describe;
mod end;
pub mod errors;
pub mod host_key;
#[cfg(test)]
mod hostile;
pub mod image;
mod launch;
mod observe;
pub mod request;
mod sentences;
pub mod steps;
pub mod sweep;

//! The ssh-worker: reads a gatewayd's key, starts it, stops it and updates it, over SSH.
//!
//! [`session`] reaches a host whose key is known beforehand, [`remote`] makes a command line, [`command`] runs one,
//! [`parse`] reads what it printed. `key`, `start`, `stop` and `update` are the steps. gatewayd's exit codes lie, so
//! each of them looks at the effect.

pub mod command;
mod host;
mod key;
mod observe;
pub mod parse;
pub mod remote;
pub mod session;
mod start;
pub mod steps;
mod stop;
mod update;

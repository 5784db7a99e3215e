//! The ssh-worker: gives a host an identity of its own, reads its gatewayd's key, starts it, stops it and updates it, over SSH.
//!
//! [`session`] reaches a host whose key is known beforehand, [`remote`] makes a command line, [`command`] runs one,
//! [`parse`] reads what it printed. `key`, `start`, `stop` and `update` are the steps; [`rotation`] brings the fleet's next
//! SSH key to all hosts. gatewayd's exit codes lie, so
//! each of them looks at the effect.

pub mod command;
mod host;
mod host_key;
#[cfg(test)]
mod hostile;
pub mod identity;
mod key;
mod logins;
mod observe;
pub mod parse;
mod redact;
pub mod remote;
pub mod rotation;
pub mod session;
mod start;
pub mod steps;
mod stop;
mod update;

//! The Resque protocol for Rust: queues and workers that lose no job.
//!
//! A [`Queue`] pushes jobs and shows what is there; [`work`] takes jobs and does them with a [`Handler`].
//! Both speak the wire format of Ruby's resque and npm's node-resque, whose clients and web pages may
//! stand beside them on one Redis.
//!
//! # Delivery
//! At least once. A job is taken from its queue and written down under its worker's id in one atomic
//! step, with a lease that the worker renews. A worker that dies loses the lease, and any other worker
//! puts the job back. So a job may run twice, and what it does must be idempotent.
//!
//! # Keys
//! Besides the usual ones (`queues`, `queue:NAME`, `workers`, `worker:ID`, `worker:ID:started`,
//! `workers:heartbeat`, `stat:…`, `failed`, `pause-all-workers`) there are four that no other client
//! looks at: `inflight:ID` (a hash: the job in hand), `leases` (a sorted set: when each lease ends, in
//! ms of the server's clock), `rescues:QUEUE:SHA1` (how often a job's worker died; kept for a day) and
//! `unique:QUEUE:SHA1` (the job is queued; see [`Queue::push_unique_many`]).

mod backoff;
mod beat;
mod clock;
mod config;
mod connection;
mod error;
mod failed;
mod gate;
mod id;
mod job;
mod queue;
mod scripts;
mod slot;
mod wake;
mod worker;
mod worker_config;
mod workers;

pub use config::Config;
pub use error::Error;
pub use failed::FailedEntry;
pub use gate::Gate;
pub use job::{Failure, Job, payload};
pub use queue::{Push, Queue};
pub use worker::{Handler, work};
pub use worker_config::WorkerConfig;
pub use workers::{WorkerInfo, Working};

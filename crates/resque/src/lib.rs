//! The Resque protocol for Rust: queues and workers that lose no job.
//!
//! A [`Queue`] pushes jobs and shows what is there; [`work`] takes jobs and does them with a [`Handler`].
//! Both speak the wire format of Ruby's resque and npm's node-resque, whose clients and web pages may
//! stand beside them on one Redis.
//!
//! # Delivery
//! At least once. A job is taken from its queue and written down under its worker's process in one atomic
//! step, with a lease that the process renews. A process that dies loses the lease, and any other puts its
//! jobs back. So a job may run twice, and what it does must be idempotent.
//!
//! One round trip tells Redis of all jobs that have ended and takes as many new ones, up to 256.
//!
//! # Keys
//! Besides the usual ones (`queues`, `queue:NAME`, `workers`, `worker:ID`, `worker:ID:started`,
//! `workers:heartbeat`, `stat:…`, `failed`, `pause-all-workers`, and for delayed jobs
//! `delayed_queue_schedule`, `delayed:TS`, `timestamps:PAYLOAD`) there are five that no other client looks
//! at: `inflight:PROCESS` (a hash: the jobs in hand), `leases` (a sorted set: when each process's lease ends,
//! in ms of the server's clock), `rescues` (a hash: how often a job's worker died; it goes a day after the
//! last rescue), `unique:QUEUE:SHA1` (the job is queued; see [`Queue::push_unique_many`]) and `unique` (a set:
//! the queues that have such).

mod backoff;
mod beat;
mod bulk;
mod clock;
mod config;
mod connection;
mod delayed;
mod deliver;
mod error;
mod failed;
mod gate;
#[cfg(test)]
mod hostile;
mod id;
mod job;
mod queue;
mod remove;
mod rescues;
mod run;
mod schedule;
mod scripts;
mod server;
mod slots;
mod step;
mod stop;
mod wake;
mod worker;
mod worker_config;
mod workers;

pub use bulk::Push;
pub use config::Config;
pub use error::Error;
pub use failed::FailedEntry;
pub use gate::Gate;
pub use job::{Failure, Job, payload};
pub use queue::Queue;
pub use rescues::Rescues;
pub use schedule::schedule;
pub use worker::{Handler, work};
pub use worker_config::WorkerConfig;
pub use workers::{WorkerInfo, Working};

//! The laws of the design, each a test of its name, under fire: release binaries as processes, killed or frozen by
//! their pid at named points, writes as the real database roles, and a verdict from two witnesses only: the
//! simulated fleet's ledger, which knows what truly happened, and the database.
//!
//! `make laws` runs them, `make mutants` shows that each can fail; `docs/laws.md` says what protects each law.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod budget;
mod crash;
mod fairness;
mod idempotence;
mod limits;
mod machines;
mod parked;
mod redis;
mod retries;
mod stale;
mod sweep;
mod waits;
mod wallets;
mod witness;
mod workers;
mod writes;

//! The laws of the design, each a test of its name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod budget;
mod fairness;
mod limits;
mod retries;
mod waits;

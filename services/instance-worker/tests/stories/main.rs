//! The two steps against the simulated fleet, with a database of each story's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping it"
)]

mod attempts;
mod faults;
mod launch;
mod machines;
mod refusals;
mod scenes;
mod story;
mod terminate;
mod versions;

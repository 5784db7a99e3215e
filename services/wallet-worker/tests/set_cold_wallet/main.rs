//! The whole step, on a real Postgres and a simulated gatewayd.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

#[allow(dead_code, reason = "shared with another test, which uses the rest")]
#[path = "../simulated/mod.rs"]
mod simulated;

mod bench;
mod kept;
mod missing;
mod one_wallet;

//! Whole steps, on a real Postgres and a simulated host: as they should go, and with everything that can go wrong.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod bench;
mod key;
mod start;
mod stop;
mod trouble;
mod update;
mod words;

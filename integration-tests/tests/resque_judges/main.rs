//! Resque clients that nobody here wrote judge ours: node-resque of today and of 2014, and Python's pyres, each with
//! a Redis of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod beside;
mod node;
mod node_delayed;
mod older;
mod peers;
mod stand;

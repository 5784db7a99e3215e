//! Who may do what in Postgres: each role logs in and tries what it must not do. What a role may do stands in the tables here,
//! so that a new table, column or function that is on none of them fails a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod fixtures;
mod listed;
mod owners;
mod refused;
mod tables;

//! What people do with secrets: rotate their keys while the fleet works, back wallets up, and look at one on record.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod backup;
mod batches;
mod broken;
mod fixtures;
mod refusals;
mod reveal;
mod rotation;
mod vault;

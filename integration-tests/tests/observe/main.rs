//! What people see of a fleet in the tools that they have: metrics, logs, dashboards, alerts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod expressions;
mod files;
mod logs;
mod metrics;
mod story;
mod trouble;

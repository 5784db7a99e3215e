//! Who a host is, how that is replaced and reset, and how the fleet goes over to another SSH key.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod fleet_key;
mod host_key;
mod locked_out;
mod mortal;
mod reset;

//! The canary: known secrets go through whole walks, failures and panics, and then every place to which one could have got
//! is searched for each of them, in plain, in hex and in base64.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod acts;
mod cores;
mod finds;
mod gather;
mod secrets;
mod sources;
mod walks;
mod world;

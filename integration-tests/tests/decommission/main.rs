//! No host is ended while what must stay is kept nowhere else: refused in the database, with a sentence that says what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "tests"
)]

mod command_line;
mod host_backup;
mod operators_word;
mod story;
mod wallet_backup;

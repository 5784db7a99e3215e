//! The pinned HTTPS client against real TLS servers on loopback.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod answers;
mod certificates;
mod server;

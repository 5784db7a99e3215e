//! The commands of the default configuration, in a real shell with the real programs that they call.

// A test says what it expects by unwrapping it; integration tests need no public documentation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub
)]

mod gatewayd;
mod home;
mod keys;
mod machine;
mod releases;
mod tls;

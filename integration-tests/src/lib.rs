//! The laws and walks of GatewayZen on real servers, and what they stand on: the harness, and the simulated
//! fleet for what real programs do not do on demand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what it expects by unwrapping it"
)]

pub mod chaos;
pub mod harness;
pub mod judge;
pub mod simulated_fleet;

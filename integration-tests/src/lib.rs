//! Under construction.
pub mod simulated_fleet;

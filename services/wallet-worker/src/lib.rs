//! The wallet-worker: makes cold wallets, keeps them sealed, and tells each gatewayd its address.

pub mod api;
pub mod converge;
pub mod copies;
#[cfg(test)]
mod hostile;
mod observe;
pub mod step;

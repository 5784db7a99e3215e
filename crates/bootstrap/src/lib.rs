//! The frame of every service: settings, logs and traces, health, connections and shutdown, once.
//!
//! A service's `main.rs` is then:
//! ```no_run
//! fn main() -> std::process::ExitCode {
//!     gatewayzen_bootstrap::main("dispatcher", async |service| {
//!         let (repository, queue) = (service.repository().await?, service.queue().await?);
//!         // Work until service.shutdown is cancelled, then finish what is in hand.
//!         service.shutdown.cancelled().await;
//!         Ok(())
//!     })
//! }
//! ```

mod connect;
pub mod exposure;
pub mod health;
pub mod keys;
mod service;
pub mod settings;
mod shutdown;
pub mod telemetry;

pub use health::Health;
pub use service::{EXIT_CONFIG, Error, GOOD, Service, Stopped, main, main_with_check};
pub use settings::{ConfigError, Settings};

//! The AESP Host as one process: configuration, TLS, listeners, the wiring of the components, the command line.

pub mod cli;
pub mod config;
mod host;
pub mod wiring;

pub use config::Config;
pub use host::{Drain, Host, ReadinessProbe, RefusalObserver};

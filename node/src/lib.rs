//! The AESP Host as one process: configuration, TLS, listeners, the wiring of the components, the command line.

mod backup;
mod build;
pub mod cli;
mod cluster;
mod components;
pub mod config;
mod directory;
mod duties;
mod end;
mod followers;
mod forward;
mod guard;
mod host;
mod init;
mod joining;
mod keys;
mod listen;
mod logs;
mod metrics;
mod notary;
mod serve;
mod services;
mod shutdown;
mod sinks;
#[cfg(test)]
mod testing;
mod tiles;
pub mod tls;
pub mod wiring;

pub use build::{Build, TestBuild};
pub use config::Config;
pub use host::{Component, Drain, Host, ReadinessProbe, RefusalObserver};
pub use serve::{Addresses, Node, serve};

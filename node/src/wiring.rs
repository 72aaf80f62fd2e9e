//! Builds the components and connects them.

use crate::{Config, Host};

/// Opens the store, starts the actors and makes the services.
///
/// # Errors
/// When the store can't be opened or its master key is wrong.
pub async fn build(_config: &Config) -> anyhow::Result<Host> {
    anyhow::bail!("the services are not wired yet")
}

/// Prepares a new store and makes the platform's first administrator; returns the API key's text, which is shown once.
///
/// # Errors
/// When the store can't be created or has an administrator already.
pub async fn first_administrator(_config: &Config) -> anyhow::Result<String> {
    anyhow::bail!("the services are not wired yet")
}

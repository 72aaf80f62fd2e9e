//! Where the programs of others are that the tests and the demonstration talk to. `scripts/install-peers` installs them.

use std::{env, path::PathBuf};

use anyhow::{Context, ensure};

/// Returns a server of the usual collection, for example `mcp-server-git`.
///
/// # Errors
/// When it is not installed.
pub fn server(binary: &str) -> anyhow::Result<PathBuf> {
    find("AESP_MCP_BIN", "mcp", binary)
}

/// Returns the SQLite server, which needs libraries of its own.
///
/// # Errors
/// When it is not installed.
pub fn sqlite() -> anyhow::Result<PathBuf> {
    find("AESP_MCP_SQLITE_BIN", "mcp-sqlite", "mcp-server-sqlite")
}

/// Returns the load balancer envoy.
///
/// # Errors
/// When it is not installed.
pub fn envoy() -> anyhow::Result<PathBuf> {
    find("AESP_ENVOY_BIN", "envoy", "envoy")
}

/// Returns the S3 server SeaweedFS.
///
/// # Errors
/// When it is not installed.
pub fn weed() -> anyhow::Result<PathBuf> {
    find("AESP_SEAWEED_BIN", "seaweed", "weed")
}

/// Returns the load balancer haproxy, which the system's package brings.
///
/// # Errors
/// When it is not installed.
pub fn haproxy() -> anyhow::Result<PathBuf> {
    let path = PathBuf::from("/usr/sbin/haproxy");
    ensure!(path.is_file(), "{} is not there: run scripts/install-peers", path.display());
    Ok(path)
}

/// Returns Prometheus' Alertmanager, which the system's package brings.
///
/// # Errors
/// When it is not installed.
pub fn alertmanager() -> anyhow::Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/prometheus-alertmanager");
    ensure!(path.is_file(), "{} is not there: run scripts/install-peers", path.display());
    Ok(path)
}

/// Says that a test shows nothing here, and why: for want of a right or a program. A developer sees it as skipped.
///
/// # Panics
/// In CI (`CI=true`), which has everything that a test needs: a test that shows nothing there has failed.
pub fn skip(reason: &str) {
    skip_where(env::var("CI").ok().as_deref(), reason);
}

#[expect(clippy::print_stdout, reason = "a skipped test must be seen")]
fn skip_where(ci: Option<&str>, reason: &str) {
    assert!(ci != Some("true"), "skipped in CI: {reason}");
    println!("SKIPPED: {reason}");
}

fn find(variable: &str, folder: &str, binary: &str) -> anyhow::Result<PathBuf> {
    let bin = match env::var_os(variable) {
        Some(bin) => PathBuf::from(bin),
        None => {
            let home = PathBuf::from(env::var_os("HOME").context("HOME is not set")?);
            home.join(".cache/aesp").join(folder).join("bin")
        }
    };
    let path = bin.join(binary);
    ensure!(path.is_file(), "{} is not there: run scripts/install-peers, or set {variable}", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developer_may_skip() {
        skip_where(None, "no such right");
        skip_where(Some(""), "no such right");
    }

    #[test]
    #[should_panic(expected = "skipped in CI: no such right")]
    fn nothing_is_skipped_in_ci() {
        skip_where(Some("true"), "no such right");
    }
}

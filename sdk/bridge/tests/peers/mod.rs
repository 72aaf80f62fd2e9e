//! Where the real MCP servers are that the tests talk to. `scripts/install-peers` installs them.

use std::{env, fs, path::PathBuf};

/// Returns a server of the usual collection.
pub(crate) fn server(binary: &str) -> Option<PathBuf> {
    find("AESP_MCP_BIN", "mcp", binary)
}

/// Returns the SQLite server, which needs libraries of its own.
pub(crate) fn sqlite() -> Option<PathBuf> {
    find("AESP_MCP_SQLITE_BIN", "mcp-sqlite", "mcp-server-sqlite")
}

/// Looks in the folder that `variable` names, or else in `~/.cache/aesp/<folder>/bin`. Without it a developer's test is skipped,
/// and CI's fails.
fn find(variable: &str, folder: &str, binary: &str) -> Option<PathBuf> {
    let bin = env::var_os(variable).map(PathBuf::from).or_else(|| {
        let home = PathBuf::from(env::var_os("HOME")?);
        Some(home.join(".cache/aesp").join(folder).join("bin"))
    })?;
    let path = bin.join(binary);
    if fs::metadata(&path).is_ok() {
        return Some(path);
    }
    let reason = format!("{} is not there: run scripts/install-peers, or set {variable}", path.display());
    assert!(env::var("CI").as_deref() != Ok("true"), "{reason}");
    skip(&reason);
    None
}

#[expect(clippy::print_stdout, reason = "a skipped test must be seen")]
fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}

use std::{env, path::PathBuf};

use anyhow::Context;

/// Finds the `aesp` binary of the same build: beside this program, or beside the folder that test programs lie in.
///
/// # Errors
/// When it is not there; the text says how to build it.
pub fn aesp_binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os("AESP_BINARY") {
        return Ok(named.into());
    }
    let own = env::current_exe().context("the place of this program is unknown")?;
    let folders = own.ancestors().skip(1).take(2);
    folders.map(|folder| folder.join("aesp")).find(|path| path.is_file()).with_context(|| {
        format!(
            "there is no `aesp` beside {}: run `cargo build -p aesp-node --bins`, or set AESP_BINARY",
            own.display()
        )
    })
}

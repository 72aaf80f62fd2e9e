use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// Finds the `aesp` binary of the same build, or the one that `AESP_BINARY` names.
///
/// # Errors
/// When it is not there; the text says how to build it.
pub fn aesp_binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = env::var_os("AESP_BINARY") {
        return Ok(named.into());
    }
    program_beside("aesp", "cargo build -p aesp-node --bins, or set AESP_BINARY")
}

/// Finds a program of the same build: beside this one, or beside the folder that test programs lie in.
///
/// # Errors
/// When it is not there, with `remedy`, the command that builds it.
pub fn program_beside(name: &str, remedy: &str) -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("the place of this program is unknown")?;
    let folders = [own.parent(), own.parent().and_then(Path::parent)];
    let mut places = folders.into_iter().flatten().map(|folder| folder.join(name));
    places
        .find(|path| path.is_file())
        .with_context(|| format!("there is no {name} beside {}: run {remedy}", own.display()))
}

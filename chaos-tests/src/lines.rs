//! Files of whole lines that outlive the processes which wrote them.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;

/// Appends lines to a file, each handed to the system in one write: it is there however the process dies. (A machine that
/// loses power may lose the last ones.)
pub(crate) struct Lines(Mutex<File>);

impl Lines {
    /// # Errors
    /// When the file can't be opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::options().read(true).append(true).create(true).open(path)?;
        // A line that a killed process left unfinished must not swallow the next one.
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        Ok(Self(Mutex::new(file)))
    }

    /// # Errors
    /// When it can't be written.
    pub(crate) fn append(&self, line: &str) -> io::Result<()> {
        let line = format!("{line}\n");
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes())
    }
}

/// Returns the texts of all files of a folder.
///
/// # Errors
/// When one can't be read.
pub(crate) fn read_all(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
    entries.map(|entry| Ok(String::from_utf8_lossy(&fs::read(entry?.path())?).into_owned())).collect()
}

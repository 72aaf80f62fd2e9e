//! Libraries that are loaded into a node to lie to it: about the time (libfaketime), about the disk (libfiu).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// What a sync of a failing disk says, as Linux numbers it.
const EIO: u32 = 5;
/// How long a process may take to hear that its disk fails.
const PATIENCE_SECONDS: &str = "5";

/// Variables of a node's environment.
pub(crate) type Variables = Vec<(String, String)>;

/// A clock that a scenario sets while the node runs.
#[derive(Clone, Debug)]
pub(crate) struct FakeClock {
    library: PathBuf,
    file: PathBuf,
}

impl FakeClock {
    /// Makes one that shows the true time. `file` is where its offset is kept.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn new(library: PathBuf, file: PathBuf) -> io::Result<Self> {
        let clock = Self { library, file };
        clock.step(0)?;
        Ok(clock)
    }

    /// Sets the clock so many seconds off the true time.
    ///
    /// # Errors
    /// When the file can't be written.
    pub(crate) fn step(&self, seconds: i64) -> io::Result<()> {
        let draft = self.file.with_extension("draft");
        fs::write(&draft, format!("{seconds:+}s\n"))?;
        // Whole or not at all: the library reads it at any moment.
        fs::rename(draft, &self.file)
    }

    /// Only wall clocks lie: what waits must wait as long as ever.
    pub(crate) fn variables(&self) -> Variables {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD".into(), text(&self.library)),
            ("FAKETIME_TIMESTAMP_FILE".into(), text(&self.file)),
            ("FAKETIME_CACHE_DURATION".into(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
            ("DONT_FAKE_MONOTONIC".into(), "1".into()),
        ]
    }
}

/// Finds libfaketime.
pub(crate) fn faketime() -> Option<PathBuf> {
    // For programs with threads, where there is one for them.
    library("faketime/libfaketimeMT.so.1").or_else(|| library("faketime/libfaketime.so.1"))
}

/// The syncs of a node, which a scenario makes fail while the node runs.
#[derive(Clone, Debug)]
pub(crate) struct Syncs {
    libraries: [PathBuf; 2],
    /// What the names of the pipes begin with through which the process is told.
    pipes: PathBuf,
}

impl Syncs {
    /// Takes what libfiu needs; none without it. `pipes` is in a folder that is there.
    pub(crate) fn find(pipes: PathBuf) -> Option<Self> {
        let libraries = [library("fiu/fiu_run_preload.so")?, library("fiu/fiu_posix_preload.so")?];
        Some(Self { libraries, pipes })
    }

    pub(crate) fn variables(&self) -> Variables {
        let libraries = self.libraries.each_ref().map(|library| library.display().to_string());
        vec![
            ("LD_PRELOAD".into(), libraries.join(" ")),
            // Read once, at the start of the process: it listens, and nothing fails yet.
            ("FIU_CTRL_FIFO".into(), self.pipes.display().to_string()),
        ]
    }

    /// Has `percent` of the syncs of the process fail with what a failing disk says; 0 mends them.
    ///
    /// # Errors
    /// When the process does not listen.
    pub(crate) fn fail(&self, process: u32, percent: u32) -> anyhow::Result<()> {
        let mut command = Command::new("timeout");
        command.args([PATIENCE_SECONDS, "fiu-ctrl", "-f"]).arg(&self.pipes);
        for call in ["fsync", "fdatasync"] {
            let name = format!("name=posix/io/sync/{call}");
            let order = match percent {
                0 => format!("disable {name}"),
                100 => format!("enable {name},failinfo={EIO}"),
                _ => {
                    let probability = f64::from(percent) / 100.0;
                    format!("enable_random {name},probability={probability},failinfo={EIO}")
                }
            };
            command.args(["-c", &order]);
        }
        let output = command.arg(process.to_string()).output().context("fiu-ctrl does not start")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "fiu-ctrl {process}: {} {}", output.status, said.trim());
        Ok(())
    }
}

/// Joins variables; libraries that both want loaded are loaded both.
pub(crate) fn joined(all: impl IntoIterator<Item = (String, String)>) -> Variables {
    let mut joined: Variables = Vec::new();
    for (name, value) in all {
        match joined.iter_mut().find(|(there, _)| *there == name) {
            Some((_, there)) => *there = format!("{there} {value}"),
            None => joined.push((name, value)),
        }
    }
    joined
}

/// Looks where Debian and its like put libraries that are only preloaded.
fn library(name: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_two_lies_are_loaded_both() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let joined = joined([pair("LD_PRELOAD", "a.so"), pair("A", "1"), pair("LD_PRELOAD", "b.so c.so")]);
        assert_eq!(joined, [pair("LD_PRELOAD", "a.so b.so c.so"), pair("A", "1")]);
    }
}

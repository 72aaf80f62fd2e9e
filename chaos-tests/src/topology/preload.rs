//! Libraries that are loaded into a node to lie to it: about the time (libfaketime), about the disk (libfiu).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What a sync of a failing disk says, as Linux numbers it.
const EIO: u32 = 5;

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

/// Returns the environment in which `percent` of the syncs fail with what a failing disk says; none without libfiu.
pub(crate) fn failing_syncs(percent: u32) -> Option<Variables> {
    let (run, posix) = (library("fiu/fiu_run_preload.so")?, library("fiu/fiu_posix_preload.so")?);
    let fails = |call: &str| {
        format!(
            "enable_random name=posix/io/sync/{call},probability={},failinfo={EIO}",
            f64::from(percent) / 100.0
        )
    };
    Some(vec![
        ("LD_PRELOAD".into(), format!("{} {}", run.display(), posix.display())),
        ("FIU_ENABLE".into(), [fails("fsync"), fails("fdatasync")].join("\n")),
    ])
}

/// Looks where Debian and its like put libraries that are only preloaded.
fn library(name: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.chain([PathBuf::from("/usr/lib")]).map(|folder| folder.join(name)).find(|path| path.is_file())
}

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

const BLOCKS: [usize; 2] = [1 << 20, 4 << 10];

/// A small disk in memory (tmpfs), for the store of a node to fill. Needs root. Unmounted when dropped.
pub(crate) struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Mounts one at `mount`.
    ///
    /// # Errors
    /// When it can't be mounted.
    pub(crate) fn mount(mount: PathBuf, mib: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(&mount)?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "tmpfs"]).arg(&mount);
        let output = command.output().context("mount does not start")?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { mount })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Writes until nothing more fits.
    ///
    /// # Errors
    /// When the ballast can't be made.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        let mut ballast = File::create(self.ballast())?;
        for size in BLOCKS {
            while ballast.write_all(&vec![0xA5; size]).is_ok() {}
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When the ballast can't be removed.
    pub(crate) fn empty(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the node that has the store open is killed at about the same time.
        let _ended = Command::new("umount").arg("-l").arg(&self.mount).output();
    }
}

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstatvfs},
    io::Errno,
};

/// The room of the data file on the disk. Blocks are allocated ahead of what LMDB writes, so that the last of them are there
/// for removals and revocations when the disk is full.
pub(super) struct Disk {
    file: File,
    /// What only removals and revocations may use.
    reserve_bytes: u64,
    /// The map's size, which the file never exceeds.
    most_bytes: u64,
    /// The blocks that the file surely has.
    allocated_bytes: AtomicU64,
}

/// The most that is held back; a revocation writes a few pages.
const MAX_RESERVE_BYTES: u64 = 16 << 20;
/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;
/// With less than this a disk counts as full.
const FULL_BYTES: u64 = 256 << 10;

impl Disk {
    /// Takes the data file of an environment that is open.
    pub(super) fn open(data: &Path, reserve_bytes: u64, most_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(data)?;
        let allocated_bytes = AtomicU64::new(file.metadata()?.blocks() * BLOCK_BYTES);
        Ok(Self { file, reserve_bytes: reserve_bytes.min(MAX_RESERVE_BYTES), most_bytes, allocated_bytes })
    }

    /// Tells whether the file may come to `needed` bytes with the reserve left untouched. Allocates more if it must.
    pub(super) fn has_room(&self, needed_bytes: u64) -> bool {
        let with_reserve = needed_bytes.saturating_add(self.reserve_bytes);
        if with_reserve <= self.allocated_bytes.load(Ordering::Relaxed) {
            return true;
        }
        // Some more, so that the next ones need not ask; if that is too much, what this one needs.
        self.allocate(with_reserve.saturating_add(self.reserve_bytes)) || self.allocate(with_reserve)
    }

    fn allocate(&self, upto_bytes: u64) -> bool {
        let upto_bytes = upto_bytes.min(self.most_bytes);
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, upto_bytes) {
            Ok(()) => {
                self.allocated_bytes.fetch_max(upto_bytes, Ordering::Relaxed);
                true
            }
            Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => false,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                tracing::warn!("the file system reserves no space: a full disk may refuse revocations too");
                self.allocated_bytes.store(u64::MAX, Ordering::Relaxed);
                true
            }
            // Whatever it is, LMDB will meet it and say so.
            Err(_) => true,
        }
    }

    /// Tells whether nothing more fits onto the disk.
    pub(super) fn is_full(&self) -> bool {
        fstatvfs(&self.file).is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) < FULL_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn blocks_are_allocated_ahead_and_the_file_keeps_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.mdb");
        fs::write(&data, [1; 4_096]).unwrap();
        let disk = Disk::open(&data, 1 << 20, 16 << 20).unwrap();
        assert!(disk.has_room(1 << 20));
        let metadata = fs::metadata(&data).unwrap();
        assert_eq!(metadata.len(), 4_096);
        assert!(metadata.blocks() * BLOCK_BYTES >= 2 << 20, "{} blocks", metadata.blocks());
        assert!(!disk.is_full());
    }
}

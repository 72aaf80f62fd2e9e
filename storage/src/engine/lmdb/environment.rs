use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use heed::{CommitOrAbort, EnvOpenOptions, MdbError, WithoutTls, types};

use super::{LmdbOptions, disk::Disk};
use crate::Error;

pub(super) type Env = heed::Env<WithoutTls>;
pub(super) type Rows = heed::Database<'static, types::Bytes, types::Bytes>;

/// An open LMDB environment: the database that holds all rows, the one of the journal, and one for what is known about both.
pub(super) struct Environment {
    pub(super) env: Env,
    pub(super) rows: Rows,
    pub(super) journal: Rows,
    pub(super) meta: Rows,
    reserve_bytes: usize,
    /// How much of the map may be in use before only removals and revocations are taken.
    soft_limit_bytes: usize,
    pub(super) disk: Disk,
}

/// Tells our environments from others', and the form of what is in it.
const DATABASE: &str = "aesp-store-1";
const JOURNAL: &str = "aesp-journal-1";
const META: &str = "aesp-meta-1";
const DATA_FILE: &str = "data.mdb";

impl Environment {
    /// Opens the environment in the folder `path`, which exists.
    pub(super) fn open(path: &Path, options: &LmdbOptions) -> Result<Self, heed::Error> {
        let env = open_env(path, options)?;
        let (rows, journal, meta) = databases(&env, path)?;
        // A dead process keeps the pages that it was reading from being used again.
        env.clear_stale_readers()?;
        let reserve_bytes = (options.map_size_bytes / 8).clamp(MIN_RESERVE_BYTES, MAX_RESERVE_BYTES);
        let disk = Disk::open(&path.join(DATA_FILE), reserve_bytes as u64, options.map_size_bytes as u64)?;
        let soft_limit_bytes = options.map_size_bytes.saturating_sub(reserve_bytes);
        Ok(Self { env, rows, journal, meta, reserve_bytes, soft_limit_bytes, disk })
    }

    /// Tells whether so much may be in use with the reserve left untouched, in the map and on the disk.
    pub(super) fn has_room(&self, needed_bytes: usize) -> bool {
        needed_bytes <= self.soft_limit_bytes && self.disk.has_room(needed_bytes as u64)
    }

    /// Returns how many bytes the pages in use take, as this transaction sees them.
    pub(super) fn used_bytes(&self, txn: &heed::RoTxn<'_>) -> Result<usize, heed::Error> {
        Ok(pages_bytes(self.rows, txn)? + pages_bytes(self.meta, txn)? + self.journal_bytes(txn)?)
    }

    /// Returns how many bytes of them the journal takes.
    pub(super) fn journal_bytes(&self, txn: &heed::RoTxn<'_>) -> Result<usize, heed::Error> {
        pages_bytes(self.journal, txn)
    }

    /// Returns what the journal may take of the space that is kept for removals and revocations.
    pub(super) fn journal_reserve_bytes(&self) -> usize {
        self.reserve_bytes / 4
    }
}

fn pages_bytes(database: Rows, txn: &heed::RoTxn<'_>) -> Result<usize, heed::Error> {
    let stat = database.stat(txn)?;
    Ok((stat.branch_pages + stat.leaf_pages + stat.overflow_pages) * stat.page_size as usize)
}

const MIN_RESERVE_BYTES: usize = 256 << 10;
const MAX_RESERVE_BYTES: usize = 256 << 20;

/// Creates the folder, readable to its owner only, and returns its one true name.
pub(super) fn prepare(path: &Path) -> Result<PathBuf, Error> {
    let unusable = |error: io::Error| Error::unavailable(format!("store folder {}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
    let path = path.canonicalize().map_err(unusable)?;
    let kind = rustix::fs::statfs(&path).map_err(|error| unusable(error.into()))?.f_type;
    if let Some((_, name)) =
        NETWORK_FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind.cast_unsigned() & 0xFFFF_FFFF)
    {
        return Err(Error::unavailable(format!(
            "store folder {} is on {name}, where the locks and maps of LMDB don't hold; use a local disk",
            path.display()
        )));
    }
    Ok(path)
}

/// Source: statfs(2).
const NETWORK_FILE_SYSTEMS: [(u64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0xFF53_4D42, "CIFS"),
    (0x0102_1997, "9P"),
    (0x5346_414F, "AFS"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
];

#[expect(unsafe_code, reason = "LMDB maps a file; nobody but LMDB writes to it")]
fn open_env(path: &Path, options: &LmdbOptions) -> Result<Env, heed::Error> {
    let mut open = EnvOpenOptions::new().read_txn_without_tls();
    open.map_size(options.map_size_bytes).max_dbs(3).max_readers(options.max_readers);
    // SAFETY: the folder is ours alone (mode 0700), not on a network file system, and only LMDB changes the file.
    unsafe { open.open(path) }
}

type Databases = (Rows, Rows, Rows);

fn databases(env: &Env, path: &Path) -> Result<Databases, heed::Error> {
    if env.unnamed_database_stat().entries == 0 {
        return create(env);
    }
    let cut_off_at = repair_length(env, path)?;
    let opened = open_databases(env, cut_off_at.is_some());
    if let (Err(_), Some(length)) = (&opened, cut_off_at) {
        // What is damaged is left as it was found.
        set_length(env, path, length)?;
    }
    match opened? {
        (rows, Some(journal), Some(meta)) => Ok((rows, journal, meta)),
        // Written by a release that kept no journal.
        _ => create(env),
    }
}

fn create(env: &Env) -> Result<Databases, heed::Error> {
    let txn = env.write_txn()?;
    let created = env.create_databases_and_commit(txn, |open, txn| {
        let rows = open.create_database(txn, Some(DATABASE))?;
        let journal = open.create_database(txn, Some(JOURNAL))?;
        let meta = open.create_database(txn, Some(META))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((rows, journal, meta)))
    })?;
    created.commit().ok_or(MdbError::NotFound.into())
}

fn open_databases(env: &Env, look_through: bool) -> Result<(Rows, Option<Rows>, Option<Rows>), heed::Error> {
    let txn = env.read_txn()?;
    let opened = env.open_databases_and_commit(txn, |open, txn| {
        let rows = open.open_database(txn, Some(DATABASE))?;
        let journal = open.open_database(txn, Some(JOURNAL))?;
        let meta = open.open_database(txn, Some(META))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((rows, journal, meta)))
    })?;
    let (rows, journal, meta): (Option<Rows>, Option<Rows>, Option<Rows>) =
        opened.commit().ok_or(MdbError::NotFound)?;
    let rows = rows.ok_or(heed::Error::Mdb(MdbError::Incompatible))?;
    if look_through {
        // What was cut off reads as zeros now. If a page of a tree is among it, the walk finds it.
        let txn = env.read_txn()?;
        for database in [Some(rows), journal, meta].into_iter().flatten() {
            for row in database.iter(&txn)? {
                row?;
            }
        }
    }
    Ok((rows, journal, meta))
}

/// Makes the file as long as the environment says, so that what was cut off can be found and doesn't kill the process.
/// Pages at the end that were never written are legitimately missing. Returns how long it was if any were.
fn repair_length(env: &Env, path: &Path) -> Result<Option<u64>, heed::Error> {
    // Under the write lock, so that no other process makes the file longer in between.
    let txn = env.write_txn()?;
    let file = data_file(path)?;
    let page_bytes = env.unnamed_database_stat().page_size as u64;
    let expected = (env.info().last_page_number as u64 + 1) * page_bytes;
    let length = file.metadata()?.len();
    let short = length < expected;
    if short {
        file.set_len(expected)?;
    }
    txn.abort();
    Ok(short.then_some(length))
}

fn set_length(env: &Env, path: &Path, length: u64) -> Result<(), heed::Error> {
    let txn = env.write_txn()?;
    data_file(path)?.set_len(length)?;
    txn.abort();
    Ok(())
}

fn data_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path.join(DATA_FILE))
}

/// Says what a failure of LMDB means for the caller.
pub(super) fn explain(error: heed::Error) -> Error {
    let damaged = |what: &str| {
        Error::damaged(
            what,
            "stop every process that uses the folder, move it away and restore the store from a backup",
        )
    };
    match error {
        heed::Error::Mdb(MdbError::MapFull) => Error::Full,
        heed::Error::Io(error) if is_full(&error) => Error::Full,
        heed::Error::Mdb(MdbError::Invalid | MdbError::VersionMismatch) => {
            damaged("the folder holds no LMDB environment")
        }
        heed::Error::Mdb(MdbError::Incompatible) => {
            damaged("the folder holds the LMDB environment of another program or release")
        }
        heed::Error::Mdb(
            MdbError::Corrupted | MdbError::PageNotFound | MdbError::PageFull | MdbError::CursorFull,
        ) => damaged("LMDB found broken pages"),
        heed::Error::Decoding(_) => damaged("what the environment says of itself makes no sense"),
        heed::Error::Mdb(MdbError::MapResized) => Error::unavailable(
            "another process opened the store with a larger map; give all the same map size",
        ),
        heed::Error::Mdb(MdbError::Panic) => {
            Error::unavailable("the disk failed during a commit; restart the process once the disk is well")
        }
        other => Error::unavailable(format!("LMDB: {other}")),
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_full_and_a_broken_one_is_not() {
        let full = rustix::io::Errno::NOSPC.raw_os_error();
        assert!(matches!(explain(io::Error::from_raw_os_error(full).into()), Error::Full));
        let broken = rustix::io::Errno::IO.raw_os_error();
        assert!(matches!(explain(io::Error::from_raw_os_error(broken).into()), Error::Unavailable(_)));
    }
}

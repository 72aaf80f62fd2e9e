use std::path::PathBuf;

use aesp_proto::Timestamp;
use time::OffsetDateTime;

use super::{
    super::Error,
    report::{self, Described},
    tools::Tools,
};
use crate::{Config, config::Engine};

/// Where FoundationDB's backups of a store are, and what they are of.
#[derive(Clone, Debug)]
pub(crate) struct FdbPlace {
    pub(super) tools: Tools,
    /// A folder or a place in a bucket, with one backup beside the other. Without a secret.
    pub(crate) target: String,
    pub(crate) cluster_file: PathBuf,
    pub(crate) prefix: String,
}

/// A backup: what one `fdbbackup start` has written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Container {
    /// The last part of its URL, which says when it was begun.
    pub(super) name: String,
    pub(super) url: String,
}

impl FdbPlace {
    /// Reads the section.
    ///
    /// # Errors
    /// [`Error::Unconfigured`], [`Error::Credentials`] or [`Error::Program`].
    pub(crate) fn of(config: &Config) -> Result<Self, Error> {
        let section = config.backup.as_ref().ok_or(Error::Unconfigured)?;
        let Some(Engine::Fdb(cluster_file)) = config.store.engine() else { return Err(Error::Unconfigured) };
        if let Some(path) = &section.credentials_file {
            super::super::archive::check_private(path)?;
        }
        let options = config.store.fdb.options(&cluster_file);
        let tools = Tools::of(&section.fdb, options.tls.as_ref(), section.credentials_file.as_deref())?;
        let target = section.target.trim_end_matches('/').to_owned();
        Ok(Self { tools, target, cluster_file, prefix: config.store.fdb.prefix.clone() })
    }

    /// Returns the tag of the backup: several systems that share a cluster have one each.
    pub(super) fn tag(&self) -> String {
        format!("aesp-{}", self.prefix)
    }

    /// Returns the argument that names all keys of the store.
    pub(super) fn keys(&self) -> String {
        let (from, to) = space(&self.prefix);
        range((&from, &to))
    }

    /// Returns where this store's backups lie, and the options of the URL. Each prefix has a folder of its own: two stores of one
    /// cluster may have the same target.
    fn home(&self) -> (String, Option<&str>) {
        let (head, options) = match self.target.split_once('?') {
            Some((head, options)) => (head, Some(options)),
            None => (self.target.as_str(), None),
        };
        (format!("{}/{}", head.trim_end_matches('/'), folder(&self.prefix)), options)
    }

    /// Returns the URL to begin a backup at.
    pub(super) fn begin_at(&self, now: Timestamp) -> String {
        match self.home() {
            // FoundationDB itself begins a folder in it.
            (home, None) => home,
            (home, Some(options)) => format!("{home}/backup-{}?{options}", stamp(now)),
        }
    }

    /// Returns a backup by its URL, if it lies where this store's backups do.
    pub(super) fn container(&self, url: &str) -> Option<Container> {
        let whole = url.split('?').next()?.trim_end_matches('/');
        let name = whole.strip_prefix(&self.home().0)?.strip_prefix('/')?;
        name.starts_with("backup-").then(|| Container { name: name.to_owned(), url: url.to_owned() })
    }

    /// Returns all backups, the oldest first.
    ///
    /// # Errors
    /// Those of `fdbbackup`.
    pub(super) async fn containers(&self) -> Result<Vec<Container>, Error> {
        let base = match self.home() {
            (home, None) => home,
            // What lies in the bucket is listed from its root.
            (home, Some(options)) => {
                let host = home.strip_prefix(BLOBSTORE).unwrap_or(&home);
                format!("{BLOBSTORE}{}/?{options}", host.split('/').next().unwrap_or_default())
            }
        };
        let listed = self.tools.backup(["list", "-b", &base]).await?;
        let mut found: Vec<_> = listed.lines().filter_map(|line| self.container(line.trim())).collect();
        found.sort();
        Ok(found)
    }

    /// Tells what a backup holds, by looking at its files.
    ///
    /// # Errors
    /// Those of `fdbbackup`.
    pub(super) async fn describe(&self, container: &Container) -> Result<Described, Error> {
        let told = self.tools.backup(["describe", "-d", &container.url, "--json"]).await?;
        report::read("fdbbackup", &told)
    }
}

const BLOBSTORE: &str = "blobstore://";

/// Writes a time as FoundationDB does in the names of folders, to the second, so that names sort by it.
fn stamp(now: Timestamp) -> String {
    let at =
        OffsetDateTime::from_unix_timestamp(now.0.div_euclid(1_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    format!("{year:04}-{month:02}-{day:02}-{hour:02}-{minute:02}-{second:02}")
}

/// Writes a prefix so that it can stand in a path.
fn folder(prefix: &str) -> String {
    let write = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || byte == b'-' => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    };
    prefix.bytes().map(write).collect()
}

/// Writes a key as FoundationDB's programs read one.
pub(super) fn argument(key: &[u8]) -> String {
    let write = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("\\x{byte:02x}"),
    };
    key.iter().map(write).collect()
}

/// Returns the first key of a prefix and the first behind it.
pub(super) fn space(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    ([prefix.as_bytes(), &[0]].concat(), [prefix.as_bytes(), &[1]].concat())
}

/// Returns the argument that names the keys between two.
pub(super) fn range((from, to): (&[u8], &[u8])) -> String {
    format!("{} {}", argument(from), argument(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(target: &str) -> FdbPlace {
        let section = crate::config::BackupFdb { agents: 0, programs: "/".into(), ..Default::default() };
        let tools = Tools::unchecked(&section);
        FdbPlace { tools, target: target.into(), cluster_file: "c".into(), prefix: "aesp".into() }
    }

    #[test]
    fn backups_lie_beside_each_other() {
        let folder = place("file:///b/x");
        assert_eq!(folder.begin_at(Timestamp(0)), "file:///b/x/aesp");
        assert_eq!(folder.container("file:///b/x/aesp/backup-2/").unwrap().name, "backup-2");
        assert_eq!(folder.container("file:///b/x/aesp2/backup-2"), None, "that of another store");
        assert_eq!(folder.container("file:///b/x/backup-2"), None);
        let bucket = place("blobstore://k@h:80/n?bucket=b&sc=0");
        let url = bucket.begin_at(Timestamp(1_764_220_000_000));
        assert_eq!(url, "blobstore://k@h:80/n/aesp/backup-2025-11-27-05-06-40?bucket=b&sc=0");
        assert_eq!(bucket.container(&url).unwrap().name, "backup-2025-11-27-05-06-40");
        assert_eq!(bucket.container("blobstore://k@h:80/other/aesp/backup-1?bucket=b"), None);
        assert_eq!(folder.tag(), "aesp-aesp");
        assert_eq!(super::folder("a/../b c?"), "a_2f_2e_2e_2fb_20c_3f");
    }

    #[test]
    fn keys_are_written_as_the_programs_read_them() {
        assert_eq!(argument(b"a\x00\"; \xff"), "a\\x00\\x22\\x3b\\x20\\xff");
        let (from, to) = space("aesp");
        assert_eq!(range((&from, &to)), "aesp\\x00 aesp\\x01");
    }
}

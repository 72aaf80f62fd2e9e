use std::{fs, path::Path};

use crate::Error;

/// What a cluster file says.
///
/// Source: FoundationDB's documentation, "Cluster file".
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ClusterFile {
    /// The cluster's description and id.
    pub(super) name: String,
    /// The coordinators, `host:port` with `:tls` where they speak TLS.
    pub(super) coordinators: Vec<String>,
}

impl ClusterFile {
    /// Reads a cluster file.
    ///
    /// # Errors
    /// [`Error::Unavailable`], which says what to do about the file.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path).map_err(|error| {
            Error::unavailable(format!(
                "can't read the FoundationDB cluster file {}: {error}; copy it from a machine of the cluster (there it is \
                 /etc/foundationdb/fdb.cluster), readable and writable by this user",
                path.display()
            ))
        })?;
        Self::parse(&text).ok_or_else(|| {
            Error::unavailable(format!(
                "{} is no FoundationDB cluster file: it must say description:id@host:port,host:port; copy it from a machine \
                 of the cluster",
                path.display()
            ))
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let line: String = lines.collect();
        let (name, coordinators) = line.split_once('@')?;
        let (description, id) = name.split_once(':')?;
        let word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let coordinators: Vec<_> = coordinators.split(',').map(|part| part.trim().to_owned()).collect();
        let whole = word(description) && word(id) && coordinators.iter().all(|part| is_address(part));
        whole.then(|| Self { name: name.to_owned(), coordinators })
    }

    pub(super) fn speaks_tls(&self) -> bool {
        self.coordinators.iter().any(|address| address.ends_with(":tls"))
    }
}

fn is_address(text: &str) -> bool {
    let address = text.strip_suffix(":tls").unwrap_or(text);
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_files_are_read() {
        let file =
            ClusterFile::parse("# made by fdbcli\naesp:Ab12@10.0.0.1:4500,[::1]:4501:tls, db.example:4500\n");
        let file = file.unwrap();
        assert_eq!(file.name, "aesp:Ab12");
        assert_eq!(file.coordinators, ["10.0.0.1:4500", "[::1]:4501:tls", "db.example:4500"]);
        assert!(file.speaks_tls());
        assert!(!ClusterFile::parse("a:b@h:1").unwrap().speaks_tls());
    }

    #[test]
    fn other_files_are_refused() {
        for text in [
            "",
            "# nothing",
            "a@h:1",
            "a:b@",
            "a:b@h",
            "a:b@h:0",
            "a:b@h:x",
            ":b@h:1",
            "a-b:c@h:1",
            "[store]",
        ] {
            assert_eq!(ClusterFile::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_named_with_the_next_step() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fdb.cluster");
        let error = ClusterFile::read(&file).unwrap_err().to_string();
        assert!(error.contains("fdb.cluster: No such file") && error.contains("copy it from"), "{error}");
        fs::write(&file, "path = \"memory\"").unwrap();
        let error = ClusterFile::read(&file).unwrap_err().to_string();
        assert!(error.contains("it must say description:id@host:port"), "{error}");
    }
}

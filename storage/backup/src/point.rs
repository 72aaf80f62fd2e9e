use std::{fmt, str::FromStr};

use aesp_proto::{TenantId, Timestamp};
use serde::{Deserialize, Serialize};

/// Names the cluster whose store an archive holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version of the store; grows with every commit and never goes back, not even by a restore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the journals of an archive without a gap: a journal that was stopped, or a restored store, begins the next line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Line(pub u32);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a snapshot: `line-version`, the version at which its first chunk was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId {
    /// The line that it belongs to.
    pub line: Line,
    /// The version at which it began.
    pub version: Version,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.line, self.version)
    }
}

impl From<SnapshotId> for String {
    fn from(id: SnapshotId) -> Self {
        id.to_string()
    }
}

/// The text is not a snapshot's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a snapshot id of the form LINE-VERSION, as `list` shows it")]
pub struct InvalidSnapshotId;

impl FromStr for SnapshotId {
    type Err = InvalidSnapshotId;

    fn from_str(text: &str) -> Result<Self, InvalidSnapshotId> {
        let (line, version) = text.split_once('-').ok_or(InvalidSnapshotId)?;
        Ok(Self {
            line: Line(line.parse().map_err(|_| InvalidSnapshotId)?),
            version: Version(version.parse().map_err(|_| InvalidSnapshotId)?),
        })
    }
}

impl TryFrom<String> for SnapshotId {
    type Error = InvalidSnapshotId;

    fn try_from(text: String) -> Result<Self, InvalidSnapshotId> {
        text.parse()
    }
}

/// What to restore to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The last commit in the archive.
    Latest,
    /// The last commit that is not above a version.
    Version(Version),
    /// The last commit that is not after a time.
    Time(Timestamp),
}

/// How much to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every row.
    Everything,
    /// The rows of one tenant and those of the platform, without which no store opens.
    Tenant(TenantId),
}

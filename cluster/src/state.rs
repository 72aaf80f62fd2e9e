use serde::{Deserialize, Serialize};

/// What a node is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It has begun and owns nothing yet.
    #[default]
    Joining,
    /// It owns its share.
    Serving,
    /// It hands over what it owns, and takes nothing more.
    Draining,
}

impl MemberState {
    pub(crate) const ALL: [Self; 3] = [Self::Joining, Self::Serving, Self::Draining];

    /// Returns its name, as rows, gossip and people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// How busy a node is. A hint for placement and for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Sessions in memory.
    pub sessions: u32,
    /// Calls that run.
    pub calls: u32,
}

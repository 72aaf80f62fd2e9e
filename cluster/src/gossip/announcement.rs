use std::str::FromStr;

use chitchat::NodeState;

use crate::{Load, MemberState};

/// What a node tells everybody about itself. Hints: whoever has the cluster's secret could have written them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// What it is ready for.
    pub state: MemberState,
    /// Host and port of its peer listener.
    pub peers: String,
    /// Version of its fulfilment table.
    pub fulfilment: u64,
    /// How busy it is.
    pub load: Load,
}

const STATE: &str = "state";
const PEERS: &str = "peers";
const FULFILMENT: &str = "fulfilment";
const SESSIONS: &str = "sessions";
const CALLS: &str = "calls";
/// The longest host name and a port.
const LONGEST_ENDPOINT_BYTES: usize = 263;

impl Announcement {
    /// Returns the pairs that travel. An endpoint longer than a name can be is left out.
    pub(super) fn to_pairs(&self) -> Vec<(String, String)> {
        let peers = if self.peers.len() <= LONGEST_ENDPOINT_BYTES { self.peers.as_str() } else { "" };
        [
            (STATE, self.state.name().to_owned()),
            (PEERS, peers.to_owned()),
            (FULFILMENT, self.fulfilment.to_string()),
            (SESSIONS, self.load.sessions.to_string()),
            (CALLS, self.load.calls.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Reads what another node told; what is missing or makes no sense counts as the least.
    pub(super) fn read(node: &NodeState) -> Self {
        let peers = node.get(PEERS).filter(|peers| peers.len() <= LONGEST_ENDPOINT_BYTES);
        Self {
            state: node.get(STATE).and_then(MemberState::from_name).unwrap_or_default(),
            peers: peers.unwrap_or_default().to_owned(),
            fulfilment: number(node, FULFILMENT),
            load: Load { sessions: number(node, SESSIONS), calls: number(node, CALLS) },
        }
    }
}

fn number<T: FromStr + Default>(node: &NodeState, key: &str) -> T {
    node.get(key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

use std::collections::{BTreeMap, BTreeSet};

use crate::endpoint::Endpoint;

/// Where a Runtime stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeState {
    /// No node has accepted it yet, or its last connection ended.
    #[default]
    Connecting,
    /// A node has accepted it and may send calls.
    Serving,
    /// It finishes its calls and will leave.
    Draining,
    /// It has left.
    Stopped,
}

/// What a Runtime tells about itself, from moment to moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeStatus {
    /// Where it stands.
    pub state: RuntimeState,
    /// The node that it is connected to.
    pub endpoint: Option<Endpoint>,
    /// The Host's name of the connection.
    pub connection_id: String,
    /// The tools that the Host lets it fulfil.
    pub fulfilled: BTreeSet<String>,
    /// The tools that the Host does not let it fulfil, with the reasons.
    pub rejected: BTreeMap<String, String>,
    /// The tools that the Host registered for sessions in DEVELOPMENT mode.
    pub registered: BTreeSet<String>,
    /// The tools that the Host did not register, with the reasons.
    pub not_registered: BTreeMap<String, String>,
    /// Why the last attempt to connect failed, the last connection ended, or the Host asked it to end: because the node shuts
    /// down, or because another process connected under the same name and instance. None while nothing is wrong.
    pub last_error: Option<String>,
}

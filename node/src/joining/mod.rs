//! What a node gives to a machine that joins its cluster: a certificate from the authority, if its key is here, and what all nodes
//! share.

mod door;
mod fingerprint;
mod throttle;

pub(crate) use door::Door;
pub(crate) use fingerprint::fingerprint;
use throttle::Throttle;

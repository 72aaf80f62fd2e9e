//! Requests about sessions of other nodes: the gateway passes them on to the owner, once, and the owner authenticates the
//! client again and serves them as if they had come to it.

mod about;
mod answer;
mod encoding;
mod gateway;
mod metrics;
mod owner;
mod place;
mod wire;

use aesp_proto::Incarnation;

pub(crate) use gateway::Forward;
pub(crate) use metrics::Metrics;
pub(crate) use owner::Owner;

/// Says of a request that another node passed it on. Nothing that comes from outside can say so.
#[derive(Clone)]
pub(crate) struct Forwarded {
    /// The node that the client is connected to.
    pub(crate) gateway: Incarnation,
    /// Its word about the client's certificate; without, the client sent a token.
    pub(crate) voucher: Option<String>,
}

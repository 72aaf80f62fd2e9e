//! The gRPC services: each RPC authenticates in the guard, asks for its grant, and does one thing under it.

mod agent;
mod context;

use aesp_proto::v1::agent_service_server::AgentServiceServer;
use tonic::service::Routes;

pub(crate) use context::{Context, Entry, enter};

/// Makes the routes of every service. Messages above `message_bytes` are refused.
pub(crate) fn routes(context: &Context, message_bytes: usize) -> Routes {
    let agent =
        AgentServiceServer::new(agent::Agent(context.clone())).max_decoding_message_size(message_bytes);
    Routes::new(agent)
}

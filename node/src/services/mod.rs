//! The gRPC services: each RPC authenticates in the guard, asks for its grant, and does one thing under it.

mod context;

pub(crate) use context::{Context, Entry, enter};

//! The Rust SDK of the AESP Host.

mod call;
mod channel;
mod client;
mod credentials;
mod endpoint;
mod failure;
mod pool;
mod retry;
mod runtime;
mod session;
mod stream;
mod tls;
mod transport;

pub use aesp_proto::{Entropy, Error, ErrorCode, v1};
pub use call::{CallBuilder, CallResult};
pub use channel::Channel;
pub use client::{Client, ClientBuilder};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use failure::ToolFailure;
pub use retry::Retry;
pub use runtime::{
    CallContext, Chunks, Runtime, RuntimeBuilder, RuntimeHandle, RuntimeState, RuntimeStatus, Tool,
};
pub use session::Session;
pub use stream::{CallStream, StreamPart};
pub use tls::Tls;

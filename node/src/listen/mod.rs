//! The three listeners: gRPC, HTTPS, metrics and probes.

mod grpc;
mod health;
mod https;
mod probes;
mod readiness;

pub(crate) use grpc::{serve as serve_grpc, with_public};
pub(crate) use health::Health;
pub(crate) use https::{router as https_router, serve as serve_https};
pub(crate) use probes::router as probe_router;
pub(crate) use readiness::Readiness;

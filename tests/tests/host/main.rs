//! Tests of a real Host, as a process of its own, through its public interfaces.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod calls;
mod canary;
mod crash;
mod credentials;
mod every_rpc;
mod isolation;
mod revocation;
mod runtimes;
mod support;

//! Tests of a real Host, as a process of its own, through its public interfaces.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod bad_input;
mod calls;
mod canary;
mod changes;
mod cluster;
mod configuration;
mod crash;
mod credentials;
mod every_rpc;
mod isolation;
mod local_tools;
mod owner;
mod revocation;
mod runtimes;
mod sessions;
mod streams;
mod support;

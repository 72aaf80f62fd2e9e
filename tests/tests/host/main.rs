//! Tests of a real Host, as a process of its own, through its public interfaces.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod backup;
mod bad_input;
mod balancers;
mod calls;
mod canary;
mod certificates;
mod changes;
mod cluster;
mod configuration;
mod crash;
mod credentials;
mod every_rpc;
mod frames;
mod full_disk;
mod intruders;
mod isolation;
mod joining;
mod keys;
mod limits;
mod load;
mod local_tools;
mod nested;
mod operations;
mod owner;
mod raw_runtime;
mod repeats;
mod revocation;
mod runtimes;
mod sessions;
mod silent_runtime;
mod start_up;
mod streams;
mod support;
mod tokens;
mod upgrade;

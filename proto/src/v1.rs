//! Generated from `aesp/v1/*.proto`.
#![allow(
    missing_docs,
    clippy::all,
    unreachable_pub,
    unused_qualifications,
    rust_2018_idioms,
    clippy::allow_attributes_without_reason,
    reason = "generated code; its documentation is in the .proto files"
)]

tonic::include_proto!("aesp.v1");

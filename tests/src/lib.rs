//! What the tests across components, the demonstration and the bench share: a real Host in a process of its own, tenants and
//! accounts in it, Runtimes, and the bare relay that the Host is compared with.

mod admin;
mod balancer;
pub mod bao;
mod binary;
pub mod command;
mod contracts;
pub mod descriptors;
mod fdb;
mod host;
pub mod peers;
mod process;
pub mod procfs;
pub mod relay;
mod runtime;
mod scrape;
mod seaweed;
mod site;
mod socket;
mod tenant;
mod trio;
mod wait;
mod world;

pub use admin::platform;
pub use balancer::Balancer;
pub use bao::Bao;
pub use binary::{aesp_binary, program_beside};
pub use contracts::{Contract, echo, object};
pub use fdb::{FdbCluster, FdbFiles, localities};
pub use host::{Certificate, Host, HostOptions};
pub use process::Process;
pub use runtime::Worker;
pub use scrape::scrape;
pub use seaweed::Seaweed;
pub use site::{SHARDS, Site, balanced, nodes, on_foundationdb, store_flags};
pub use tenant::{Account, Tenant};
pub use trio::Trio;
pub use wait::{DEADLINE, soon, until};
pub use world::{HOUR, World};

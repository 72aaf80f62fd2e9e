//! FoundationDB's own continuous backup, driven: `fdbbackup` and `fdbrestore` do it, agents carry it out.

mod agents;
mod duty;
mod live;
mod place;
mod report;
mod restore;
mod times;
mod tools;

pub(crate) use self::{
    duty::start,
    live::FdbLive,
    restore::{Destination, drill, restore},
};

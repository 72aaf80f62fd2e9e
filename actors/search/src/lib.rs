//! Finding and counting audit events: an index that is built behind each tenant's log, at the tenant's home.
//!
//! [`Index::advance`] builds it, [`Index::search`] answers with pages and [`Index::statistics`] with counts; both are complete
//! whatever the index holds, because the rest is read from the log.

mod bucket;
mod cells;
mod error;
mod follow;
mod follower;
mod forget;
mod groups;
mod index;
mod locate;
mod metrics;
mod ordinals;
mod places;
mod postings;
mod rows;
mod search;
mod segment;
mod statistics;
mod terms;
mod varint;

pub use cells::Tally;
pub use error::Error;
pub use follow::{Begin, Follow, News};
pub use index::{Index, Status, Step};
pub use metrics::Metrics;
pub use search::Found;
pub use statistics::{Group, GroupBy, Question, Statistics};

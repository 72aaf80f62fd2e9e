//! The index against the log: whatever it holds, the answers are those of the log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

mod damage;
mod pages;
mod statistics;
mod world;

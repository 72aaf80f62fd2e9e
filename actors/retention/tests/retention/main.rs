//! Retention as its users meet it: what is due goes, what is held stays, what is erased is erased everywhere, and the log verifies.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

mod archive;
mod erasing;
mod rules;
mod world;

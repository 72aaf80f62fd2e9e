//! The sealed log on real stores: what its readers meet, what sealers may not do, and what is found after tampering.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also outside of its function")]

mod forks;
mod platform;
mod ranges;
mod sealing;
mod tampering;
mod world;

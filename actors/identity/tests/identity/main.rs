//! The component as the Host uses it: transaction functions on a store in memory, tokens and snapshots loaded from it.
#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod accounts;
mod certificates;
mod credentials;
mod forgery;
mod login;
mod model;
mod tokens;
mod vouchers;
mod world;

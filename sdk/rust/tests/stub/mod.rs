//! A stub of the Host for the tests of the SDK: the generated service traits over TLS with a certificate authority made on
//! the spot. It decides nothing; tests tell it what to answer.
#![expect(dead_code, unreachable_pub, reason = "each test binary uses a part of the stub")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that finds what it does not expect ends there"
)]

pub mod agent;
pub mod authentication;
mod pki;
pub mod runtime;
pub mod server;

use std::{future::Future, time::Duration};

pub use pki::Pki;
pub use runtime::RuntimePeer;
pub use server::Stub;

/// Waits for what must happen soon.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within 10 s"))
}

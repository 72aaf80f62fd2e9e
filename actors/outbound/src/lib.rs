//! What the Host sends to others over the network, whatever it is: audit events to sinks, alerts to receivers.
//!
//! TLS 1.3 with the authorities that the operator names ([`Material`]), bounded HTTP without redirects and proxies ([`Http`]), secrets that
//! are read late and followed ([`LateSecret`]), signatures after Standard Webhooks ([`sign_webhook`]), one set of causes why something
//! was not taken ([`Cause`]), and the pauses between attempts ([`Backoff`]).

mod answer;
mod backoff;
mod endpoint;
mod failure;
mod http;
mod secret;
mod tls;
mod webhook;

pub use answer::Answer;
pub use backoff::Backoff;
pub use endpoint::{Endpoint, url};
pub use failure::{Cause, Failure, cut};
pub use http::{Http, credential};
pub use secret::LateSecret;
pub use tls::Material;
pub use webhook::sign_webhook;

//! The Rust SDK of the AESP Host.
//!
//! A [`Client`] is what agents and administrators use: sessions, calls, and the generated clients of every other service. A
//! [`Runtime`] is a process that dials in to the Host and runs tools. Both speak TLS 1.3 only, take several endpoints and move
//! to another node when one is gone. What the Host refuses arrives as [`Error`], with a stable [`ErrorCode`] and the next step.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use aesp_sdk::{Client, Credentials, Runtime, Tls};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), aesp_sdk::Error> {
//! // Runs the tool.
//! let tls = Tls::from_files("ca.pem", Some(("runtime.pem".into(), "runtime.key".into())))?;
//! let runtime = Runtime::builder("greeter-1", tls)
//!     .endpoint("https://node-1:9443".parse()?)
//!     .endpoint("https://node-2:9443".parse()?)
//!     .tool("greet", async |_call, args| Ok(json!({ "text": format!("Hello, {}!", args["name"]) })))
//!     .build()?;
//! let handle = runtime.handle();
//! let running = tokio::spawn(runtime.run());
//!
//! // Calls it. The Host checks, runs and records the call.
//! let client = Client::builder(Tls::from_files("ca.pem", None)?)
//!     .endpoint("https://node-1:9443".parse()?)
//!     .credentials(Credentials::ApiKey("aesp_…".into()))
//!     .build()?;
//! let session = client.session(Duration::from_secs(600)).await?;
//! let result = session.call("greet", json!({ "name": "Ada" })).await?;
//! println!("{}", result.into_content()?);
//!
//! handle.drain("done");
//! running.await.expect("does not panic")?;
//! # Ok(())
//! # }
//! ```

mod call;
mod channel;
mod client;
mod credentials;
mod endpoint;
mod failure;
mod flight;
mod pool;
mod retry;
mod runtime;
mod session;
mod stream;
mod tls;
mod transport;

pub use aesp_audit_receipt::{Acknowledged, Error as ReceiptError, PublicKey, Receipt};
pub use aesp_proto::{Entropy, Error, ErrorCode, v1};
pub use call::{CallBuilder, CallResult};
pub use channel::Channel;
pub use client::{Client, ClientBuilder};
pub use credentials::Credentials;
pub use endpoint::Endpoint;
pub use failure::ToolFailure;
pub use retry::Retry;
pub use runtime::{
    CallContext, Chunks, Runtime, RuntimeBuilder, RuntimeHandle, RuntimeState, RuntimeStatus, Tool,
};
pub use session::Session;
pub use stream::{CallStream, StreamPart};
pub use tls::Tls;

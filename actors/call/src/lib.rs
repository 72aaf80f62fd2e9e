//! One call, end to end: who asks ([`Authenticator`]), whether it may ([`Access`]), and the stages of a tool call as types that
//! only the stage before can make ([`Calls`]). Decisions are made against [`View`]s, immutable and replaced whole when a right
//! changes.

mod access;
mod admitted;
mod authenticate;
mod caller;
mod calls;
mod dispatched;
mod ending;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod invoke;
mod late;
mod local;
mod outcomes;
mod recorded;
mod request;
mod reserved;
mod room;
mod stream;
mod streamed;
mod tools;
mod validated;
mod view;
mod views;

pub use access::{Access, Granted};
pub use authenticate::Authenticator;
pub use caller::{Caller, Means, Source};
pub use calls::{Calls, MayAct, Parts as CallParts, RunningCalls};
pub use error::{Error, tenant_access_denied};
pub use late::Late;
pub use request::{CallRequest, InvocationId, session_id};
pub use view::View;
pub use views::Views;

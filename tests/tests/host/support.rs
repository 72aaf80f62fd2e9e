use std::sync::Arc;

use aesp_sdk::{Error, ErrorCode, RuntimeBuilder};
use tokio::sync::{Notify, Semaphore};

/// What refuses a caller who has no right.
pub(crate) const DENIALS: [ErrorCode; 4] = [
    ErrorCode::PermissionDenied,
    ErrorCode::AuthorizationDenied,
    ErrorCode::InsufficientPermissions,
    ErrorCode::TenantAccessDenied,
];

/// Asserts a refusal with one of these codes, and that it says something.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(outcome: Result<T, Error>, codes: &[ErrorCode]) -> Error {
    match outcome {
        Ok(value) => panic!("it was let through: {value:?}"),
        Err(error) => {
            assert!(codes.contains(&error.code()), "{}: {error}", error.code().as_str_name());
            assert!(!error.message().is_empty());
            error
        }
    }
}

/// A gate in a tool: the test sees when calls arrive and lets them go on.
#[derive(Clone)]
pub(crate) struct Gate {
    arrived: Arc<Semaphore>,
    open: Arc<Notify>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self { arrived: Arc::new(Semaphore::new(0)), open: Arc::new(Notify::new()) }
    }

    /// Adds the tool `echo`, in which every call stops at the gate.
    pub(crate) fn echo(&self, runtime: RuntimeBuilder) -> RuntimeBuilder {
        let gate = self.clone();
        runtime.tool("echo", move |_, args| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                Ok(args)
            }
        })
    }

    /// Called in the tool.
    pub(crate) async fn pass(&self) {
        self.arrived.add_permits(1);
        self.open.notified().await;
    }

    /// Waits for one call to arrive.
    pub(crate) async fn arrival(&self) {
        let arrived = aesp_tests::soon("the tool is called", self.arrived.acquire()).await;
        arrived.expect("is called").expect("is open").forget();
    }

    /// Lets one call go on.
    pub(crate) fn open(&self) {
        self.open.notify_one();
    }
}

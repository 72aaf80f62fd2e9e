use std::time::Duration;

use aesp_proto::ErrorCode;

/// Why a view could not be had. Refusals of a request are [`aesp_proto::Error`], made where they are decided.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such tenant; the client hears the same as for a tenant that it may not reach.
    #[error("unknown tenant")]
    UnknownTenant,
    /// The store failed; nothing was decided.
    #[error("store failed")]
    Store(#[from] aesp_storage::Error),
    /// The tenant's row or configuration could not be read.
    #[error("tenant not loaded")]
    Tenant(#[from] aesp_tenant::Error),
    /// A contract could not be compiled.
    #[error("catalogue not loaded")]
    Catalog(#[from] aesp_catalog::Error),
    /// The principals could not be read.
    #[error("principals not loaded")]
    Identity(#[from] aesp_identity::Error),
    /// A role or policy could not be compiled.
    #[error("policies not loaded")]
    Policy(#[from] aesp_policy::Error),
    /// The registrations of Runtimes could not be read.
    #[error("registrations not loaded")]
    Runtime(#[from] aesp_runtime::Error),
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownTenant => tenant_access_denied(),
            other => {
                Self::new(ErrorCode::ServiceUnavailable, "the tenant's rights can't be read at the moment")
                    .retry_after(Duration::from_millis(500))
                    .because(other)
            }
        }
    }
}

/// The one answer for a tenant that does not exist and for one that the caller may not reach, so that nobody learns which.
#[must_use]
pub fn tenant_access_denied() -> aesp_proto::Error {
    aesp_proto::Error::new(ErrorCode::TenantAccessDenied, "the tenant does not exist or is not yours")
        .remedy("use a tenant that your account belongs to")
}

use std::{net::IpAddr, sync::Arc};

use aesp_identity::{Claims, Principal};
use aesp_proto::{PrincipalId, TenantId};

/// Where a request came from, for policies and for the record.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The peer's address.
    pub ip: Option<IpAddr>,
    /// What the client says that it is, at most 256 bytes.
    pub user_agent: String,
    /// Names the request in errors, logs and events.
    pub correlation_id: String,
}

/// Proof that a request comes from `principal`. Only [`crate::Authenticator`] makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) principal: Arc<Principal>,
    pub(crate) means: Means,
    pub(crate) source: Arc<Source>,
}

/// How a caller proved who it is.
#[derive(Clone, Debug)]
pub enum Means {
    /// A bearer token of ours.
    Token(Arc<Claims>),
    /// A client certificate that is bound to the principal.
    Certificate(Arc<str>),
}

impl Caller {
    /// Returns the principal's id.
    #[must_use]
    pub fn principal_id(&self) -> PrincipalId {
        self.principal.id
    }

    /// Returns the principal as it was at authentication.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the principal's own tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.principal.tenant
    }

    /// Returns where the request came from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns how the caller proved who it is.
    #[must_use]
    pub fn means(&self) -> &Means {
        &self.means
    }
}

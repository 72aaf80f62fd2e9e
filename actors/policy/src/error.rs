use aesp_proto::ErrorCode;

/// Why a role, assignment or policy can't be changed as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Correct the request: a name, grant or text is malformed.
    #[error("{0}")]
    Invalid(String),
    /// Correct the policy: Cedar refuses it, for all of these reasons.
    #[error("the policy is not valid: {}", .0.join("; "))]
    InvalidPolicy(Vec<String>),
    /// Name another: there is no such role in the tenant.
    #[error("there is no role {0:?}")]
    NoSuchRole(String),
    /// Name another: there is no such policy in the tenant.
    #[error("there is no such policy")]
    NoSuchPolicy,
    /// Choose another name, or delete the other first.
    #[error("a role {0:?} exists already")]
    RoleExists(String),
    /// Leave it: the role is made by the Host.
    #[error("the role {0:?} is built in and can't be changed")]
    BuiltIn(String),
    /// Take the role away first from whoever has or inherits it.
    #[error("the role {role:?} is still {how}")]
    InUse {
        /// The role.
        role: String,
        /// `assigned`, or by which role it is inherited.
        how: String,
    },
    /// Inherit from others: the roles would inherit from themselves.
    #[error("the role {0:?} would inherit from itself")]
    Cycle(String),
    /// Remove something first: the tenant has as many as it may.
    #[error("the tenant has {limit} {what}, which is the most that it may have")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The store refused; its own error says what to do.
    #[error("store")]
    Store(#[from] aesp_storage::Error),
}

impl Error {
    /// Returns the stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) | Self::InvalidPolicy(_) => ErrorCode::InvalidRequest,
            Self::NoSuchRole(_) => ErrorCode::NotFound,
            Self::NoSuchPolicy => ErrorCode::PolicyNotFound,
            Self::RoleExists(_) | Self::BuiltIn(_) | Self::InUse { .. } | Self::Cycle(_) => {
                ErrorCode::StateConflict
            }
            Self::TooMany { .. } => ErrorCode::QuotaExceeded,
            Self::Store(_) => ErrorCode::ServiceUnavailable,
        }
    }

    /// Tells whether the same request may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable())
    }
}

impl From<Error> for aesp_proto::Error {
    fn from(error: Error) -> Self {
        let step = match &error {
            Error::Store(_) => {
                let Error::Store(store) = error else { unreachable!("matched above") };
                return store.into();
            }
            Error::Invalid(_) => "correct the request",
            Error::InvalidPolicy(_) => "correct the policy; the published schema is aesp.cedarschema",
            Error::NoSuchRole(_) => "list the roles of the tenant",
            Error::NoSuchPolicy => "list the policies of the tenant",
            Error::RoleExists(_) => "choose another name, or delete the role first",
            Error::BuiltIn(_) => "create a role of your own that inherits from it",
            Error::InUse { .. } => {
                "revoke it from its principals and from the roles that inherit it, then delete it"
            }
            Error::Cycle(_) => "leave out the role that leads back",
            Error::TooMany { .. } => "delete what is no longer needed",
        };
        Self::new(error.code(), error.to_string()).remedy(step)
    }
}

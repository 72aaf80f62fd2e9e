use std::sync::Arc;

use aesp_proto::{DecisionId, ErrorCode, PrincipalId, Revision};

/// What the authoriser answers.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Go ahead, and meet the obligations.
    Permit(Permit),
    /// Permitted once the principal has authenticated more strongly.
    StepUp(StepUp),
    /// Permitted once somebody has approved.
    Pending(Pending),
    /// No.
    Denied(Denied),
}

impl Decision {
    /// Returns the permit.
    ///
    /// # Errors
    /// [`Denied`] for everything else; a step-up or an approval that is missing becomes a denial that says so.
    pub fn into_permit(self) -> Result<Permit, Denied> {
        match self {
            Self::Permit(permit) => Ok(permit),
            Self::StepUp(step_up) => Err(step_up.into_denied()),
            Self::Pending(pending) => Err(pending.into_denied()),
            Self::Denied(denied) => Err(denied),
        }
    }

    /// Returns what was considered, for the audit event and for explanations.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        match self {
            Self::Permit(permit) => &permit.basis,
            Self::StepUp(step_up) => &step_up.basis,
            Self::Pending(pending) => &pending.basis,
            Self::Denied(denied) => &denied.basis,
        }
    }
}

/// What a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basis {
    /// Names the decision in the audit log and in the client's error.
    pub decision: DecisionId,
    /// The revision of the tenant's rights that decided.
    pub revision: Revision,
    /// The roles that the principal had, inherited ones included.
    pub roles: Vec<Arc<str>>,
    /// The roles (`role:NAME`) and policies (their ids) that determined the answer, in order, each once.
    pub policies: Vec<Arc<str>>,
    /// How many Cedar policies could apply and were evaluated.
    pub evaluated: usize,
    /// What went wrong in the evaluation; for the log, never for the client.
    pub errors: Vec<String>,
}

/// Proof that a principal may do an action, decided at a revision. Only the authoriser makes one.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: PrincipalId,
    on_behalf_of: Option<PrincipalId>,
    action: String,
    obligations: Vec<Obligation>,
    basis: Basis,
}

impl Permit {
    pub(crate) fn new(
        principal: PrincipalId,
        on_behalf_of: Option<PrincipalId>,
        action: &str,
        obligations: Vec<Obligation>,
        basis: Basis,
    ) -> Self {
        Self { principal, on_behalf_of, action: action.to_owned(), obligations, basis }
    }

    /// Adds what the permit of the other party rests on and obliges to.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for policy in other.basis.policies {
            if !self.basis.policies.contains(&policy) {
                self.basis.policies.push(policy);
            }
        }
        for obligation in other.obligations {
            if !self.obligations.contains(&obligation) {
                self.obligations.push(obligation);
            }
        }
        self.basis.evaluated += other.basis.evaluated;
        self
    }

    /// Returns who may.
    #[must_use]
    pub fn principal(&self) -> PrincipalId {
        self.principal
    }

    /// Returns whom it is done for, when that is another.
    #[must_use]
    pub fn on_behalf_of(&self) -> Option<PrincipalId> {
        self.on_behalf_of
    }

    /// Returns what may be done.
    #[must_use]
    pub fn action(&self) -> &str {
        &self.action
    }

    /// Returns the decision's id.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.basis.decision
    }

    /// Returns the revision of the rights that decided; an older permit than the node's applied revision is asked for anew.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.basis.revision
    }

    /// Returns what the permit obliges to.
    #[must_use]
    pub fn obligations(&self) -> &[Obligation] {
        &self.obligations
    }

    /// Returns the roles and policies that permitted.
    #[must_use]
    pub fn policies(&self) -> &[Arc<str>] {
        &self.basis.policies
    }

    /// Returns everything that was considered.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }
}

/// What a permit obliges to: the text of the `@obligation` annotation of a policy that permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obligation {
    /// The policy that obliges.
    pub policy: Arc<str>,
    /// What to do.
    pub text: Arc<str>,
}

/// The request would be permitted, were the principal authenticated more strongly.
#[derive(Clone, Debug)]
pub struct StepUp {
    /// What is required: the text of the `@step_up` annotation.
    pub requirement: Arc<str>,
    /// What was considered.
    pub basis: Basis,
}

impl StepUp {
    /// Returns this as a denial.
    #[must_use]
    pub fn into_denied(self) -> Denied {
        let reason = format!("a stronger authentication is required: {}", self.requirement);
        Denied { code: ErrorCode::MfaRequired, reason, basis: self.basis }
    }
}

/// The request would be permitted, had somebody approved it.
#[derive(Clone, Debug)]
pub struct Pending {
    /// What is required: the text of the `@approval` annotation.
    pub requirement: Arc<str>,
    /// What was considered.
    pub basis: Basis,
}

impl Pending {
    /// Returns this as a denial.
    #[must_use]
    pub fn into_denied(self) -> Denied {
        let reason = format!("an approval is required: {}", self.requirement);
        Denied { code: ErrorCode::AuthorizationDenied, reason, basis: self.basis }
    }
}

/// The request is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// The stable code.
    pub code: ErrorCode,
    /// Why, for the client's eyes.
    pub reason: String,
    /// What was considered.
    pub basis: Basis,
}

impl Denied {
    /// Returns the decision's id.
    #[must_use]
    pub fn decision(&self) -> DecisionId {
        self.basis.decision
    }

    /// Returns the revision of the rights that decided.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.basis.revision
    }

    /// Returns the roles and policies that determined the denial; empty where nothing granted.
    #[must_use]
    pub fn policies(&self) -> &[Arc<str>] {
        &self.basis.policies
    }
}

impl From<Denied> for aesp_proto::Error {
    fn from(denied: Denied) -> Self {
        let remedy = match denied.code {
            ErrorCode::PolicyEvaluationFailed => "ask an administrator of the tenant to check its policies",
            ErrorCode::MfaRequired => "authenticate as the policy requires and try again",
            ErrorCode::TenantAccessDenied => "use a principal of the tenant concerned",
            _ => "ask an administrator of the tenant for the right, naming the decision",
        };
        let error = Self::new(denied.code, denied.reason).remedy(remedy).decided_by(denied.basis.decision);
        if denied.basis.errors.is_empty() { error } else { error.because(denied.basis.errors.join("; ")) }
    }
}

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aesp_proto::{PrincipalId, SessionId, TenantId, Timestamp};

/// What the authoriser is asked: may `principal` do `action` to `resource`?
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: PrincipalId,
    /// `USER`, `SERVICE_ACCOUNT` or `SYSTEM_ACCOUNT`.
    pub principal_kind: &'a str,
    /// The tenant of the principal, whose snapshot decides.
    pub tenant: TenantId,
    /// For a Runtime that calls on behalf of the caller of the dispatch it works on: that caller. See
    /// [`authorize_both`](crate::authorize_both), which asks for both.
    pub on_behalf_of: Option<PrincipalId>,
    /// The action id, as the service descriptors declare it.
    pub action: &'a str,
    /// What it is done to.
    pub resource: Resource<'a>,
    /// The circumstances.
    pub context: Context<'a>,
}

/// What an action is done to. The published schema says which actions apply to which kind.
#[derive(Clone, Debug)]
pub enum Resource<'a> {
    /// A tenant: every operation that is not about a session or a tool.
    Tenant(TenantId),
    /// A session.
    Session {
        /// Its id.
        id: SessionId,
        /// The principal that it is bound to.
        owner: PrincipalId,
        /// The tenant that it is bound to.
        tenant: TenantId,
    },
    /// A tool, as its contract describes it, in the tenant of the call.
    Tool {
        /// The tenant of the call.
        tenant: TenantId,
        /// The contract's name.
        name: &'a str,
        /// The contract's version.
        version: &'a str,
        /// `READ_ONLY`, `IDEMPOTENT` or `NON_IDEMPOTENT`.
        effects: &'a str,
        /// `LOW`, `MEDIUM` or `HIGH`.
        risk: &'a str,
        /// `PUBLIC`, `INTERNAL`, `CONFIDENTIAL` or `RESTRICTED`.
        classification: &'a str,
        /// The contract's tags.
        tags: &'a [String],
        /// Roles of which the principal must have every one.
        required_roles: &'a [String],
        /// Registered by a Runtime itself, for one session.
        development: bool,
    },
}

impl Resource<'_> {
    /// Returns the tenant that the resource lies in.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        match self {
            Self::Tenant(tenant) | Self::Session { tenant, .. } | Self::Tool { tenant, .. } => *tenant,
        }
    }
}

/// The circumstances of a request.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// The time: assignments that have ended do not count.
    pub now: Timestamp,
    /// Where the request came from, when that is known.
    pub source_ip: Option<IpAddr>,
    /// The session that it came in.
    pub session: Option<SessionId>,
    /// The arguments that the contract makes visible to policies; for `tool.invoke` only.
    pub arguments: Option<&'a PolicyArguments>,
    /// 0 for an agent's own call, more for calls that a Runtime makes on behalf of one.
    pub depth: u32,
}

impl Context<'_> {
    /// Returns the circumstances of which only the time is known.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        Self { now, source_ip: None, session: None, arguments: None, depth: 0 }
    }
}

/// The arguments that policies may read, by the JSON pointer that the contract declares.
pub type PolicyArguments = BTreeMap<String, PolicyValue>;

/// A typed argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyValue {
    /// Cedar `String`.
    String(String),
    /// Cedar `Long`.
    Long(i64),
    /// Cedar `Bool`.
    Bool(bool),
    /// Cedar `decimal`, in ten-thousandths.
    Decimal(i64),
    /// Cedar `Set<String>`.
    Set(BTreeSet<String>),
}

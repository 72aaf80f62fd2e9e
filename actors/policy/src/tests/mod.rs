//! Decisions, as users of the crate notice them.

mod decisions;
mod hostile;
mod properties;
mod store;

use aesp_proto::{Entropy, PrincipalId, Revision, SessionId, TenantId, Timestamp, TokenId};

use crate::{
    Assignment, Context, Decision, Grant, Parts, PolicyArguments, Request, Resource, Role, Snapshot,
    StoredPolicy, authorize, rows::schema_fingerprint,
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn tenant() -> TenantId {
    TenantId::from_bytes([1; 16])
}

fn principal(number: u8) -> PrincipalId {
    PrincipalId::from_bytes([number; 16])
}

fn role(name: &str, inherits: &[&str], grants: &[(&[&str], &[&str])]) -> Role {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let grants = grants
        .iter()
        .map(|(actions, resources)| Grant { actions: texts(actions), resources: texts(resources) });
    Role {
        name: name.into(),
        description: String::new(),
        inherits: texts(inherits),
        grants: grants.collect(),
        built_in: false,
    }
}

fn assigned(number: u8, role: &str) -> Assignment {
    Assignment { principal: principal(number), role: role.into(), expires_at: None }
}

fn policy(number: u8, text: &str) -> StoredPolicy {
    assert_eq!(crate::validate_policy(text), Vec::<String>::new(), "{text}");
    StoredPolicy {
        id: TokenId::from_bytes([number; 16]),
        name: format!("policy {number}"),
        description: String::new(),
        text: text.into(),
        created_at: NOW,
        created_by: principal(0),
        schema: schema_fingerprint(),
    }
}

fn snapshot(roles: Vec<Role>, assignments: Vec<Assignment>, policies: Vec<StoredPolicy>) -> Snapshot {
    Snapshot::from_parts(tenant(), Revision(7), Parts { roles, assignments, policies }).expect("well-formed")
}

fn request<'a>(number: u8, action: &'a str, resource: Resource<'a>) -> Request<'a> {
    Request {
        principal: principal(number),
        principal_kind: "SERVICE_ACCOUNT",
        tenant: tenant(),
        on_behalf_of: None,
        action,
        resource,
        context: Context::at(NOW),
    }
}

fn tool<'a>(name: &'a str, tags: &'a [String], required_roles: &'a [String]) -> Resource<'a> {
    Resource::Tool {
        tenant: tenant(),
        name,
        version: "1.0.0",
        effects: "READ_ONLY",
        risk: "LOW",
        classification: "INTERNAL",
        tags,
        required_roles,
        development: false,
    }
}

fn session_of(owner: u8) -> Resource<'static> {
    Resource::Session { id: SessionId::from_bytes([9; 16]), owner: principal(owner), tenant: tenant() }
}

fn ask(snapshot: &Snapshot, request: &Request<'_>) -> Decision {
    authorize(snapshot, &Entropy::from_seed(1), request)
}

fn invoke(snapshot: &Snapshot, number: u8, name: &str, arguments: &PolicyArguments) -> Decision {
    let mut request = request(number, "tool.invoke", tool(name, &[], &[]));
    request.context.arguments = Some(arguments);
    ask(snapshot, &request)
}

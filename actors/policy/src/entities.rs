//! The slice of the world that a decision sees: the principal, the resource, the action, and whom else the request names.

use std::collections::{HashMap, HashSet};

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use cedar_policy::{Context, Entities, Entity, EntityTypeName, EntityUid, RestrictedExpression as Value};
use cedar_policy_core::{
    entities::{self, NoEntitiesSchema, TCComputation},
    extensions::Extensions,
};
use time::OffsetDateTime;

use crate::{
    PolicyValue, Request, Resource, Snapshot,
    needs::Needs,
    schema::{Action, Target, Vocabulary, uid, vocabulary},
    snapshot::RoleName,
};

/// The entities that a request is about, each with all of its ancestors.
pub(crate) struct Scope {
    principal: EntityUid,
    resource: EntityUid,
    /// Of the resource.
    parents: HashSet<EntityUid>,
    /// The principal, its ancestors, and `None`: what a policy's scope may name for the request to be within it.
    pub(crate) principals: Vec<Option<EntityUid>>,
    /// As much for the resource.
    pub(crate) resources: Vec<Option<EntityUid>>,
}

impl Scope {
    pub(crate) fn of(request: &Request<'_>, roles: &[&RoleName]) -> Self {
        let names = vocabulary();
        let of_tenant = |tenant: &TenantId| uid(&names.tenant, tenant.to_string());
        let principal = uid(&names.principal, request.principal.to_string());
        let (resource, parents) = match &request.resource {
            Resource::Tenant(tenant) => (of_tenant(tenant), HashSet::new()),
            Resource::Session { id, tenant, .. } => {
                (uid(&names.session, id.to_string()), HashSet::from([of_tenant(tenant)]))
            }
            Resource::Tool { tenant, name, classification, tags, .. } => {
                let mut parents: HashSet<_> = tags.iter().map(|tag| uid(&names.tag, tag)).collect();
                parents.insert(uid(&names.classification, classification));
                parents.insert(of_tenant(tenant));
                (uid(&names.tool, name), parents)
            }
        };
        let mut principals: Vec<_> = roles.iter().map(|role| Some(role.uid.clone())).collect();
        principals.extend([None, Some(principal.clone())]);
        let mut resources: Vec<_> = parents.iter().cloned().map(Some).collect();
        resources.extend([None, Some(resource.clone())]);
        Self { principal, resource, parents, principals, resources }
    }
}

/// A request in Cedar's terms, with what the candidates read.
pub(crate) struct Slice {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
}

/// What can't be said in Cedar's terms; the decision is a denial.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Slice {
    pub(crate) fn new(
        snapshot: &Snapshot,
        request: &Request<'_>,
        action: &Action,
        roles: &[&RoleName],
        scope: Scope,
        needs: Needs,
    ) -> Result<Self, Fault> {
        let names = vocabulary();
        let mut slice = Vec::with_capacity(8);
        slice.push(action.entity.clone());
        if needs.attributes {
            let tenant = uid(&names.tenant, request.tenant.to_string());
            slice.push(person(scope.principal.clone(), request.principal_kind, &tenant, roles)?);
            slice.push(Entity::new(
                scope.resource.clone(),
                attributes(&request.resource, names),
                scope.parents,
            )?);
            for (stranger, tenant) in strangers(request) {
                slice.push(other(snapshot, stranger, tenant, request.context.now, names)?);
            }
        } else {
            let ancestors = roles.iter().map(|role| role.uid.clone()).collect();
            slice.push(Entity::new_no_attrs(scope.principal.clone(), ancestors));
            slice.push(Entity::new_no_attrs(scope.resource.clone(), scope.parents));
        }
        let context = context(request, action.target, needs, names, &mut slice)?;
        let (principal, resource) = (scope.principal, scope.resource);
        let request = cedar_policy::Request::new(principal, action.uid.clone(), resource, context, None)?;
        Ok(Self { request, entities: closed(slice)? })
    }
}

/// Collects entities that list all of their ancestors, so that Cedar need not compute the closure of the hierarchy, which
/// would be a third of a decision's cost.
fn closed(slice: Vec<Entity>) -> Result<Entities, Fault> {
    let entities = slice.into_iter().map(|entity| entity.as_ref().clone());
    let entities = entities::Entities::from_entities(
        entities,
        None::<&NoEntitiesSchema>,
        TCComputation::AssumeAlreadyComputed,
        Extensions::all_available(),
    )?;
    Ok(entities.into())
}

/// Returns the principals that the request names beside the one that asks.
fn strangers(request: &Request<'_>) -> HashSet<(PrincipalId, TenantId)> {
    let mut found = HashSet::new();
    if let Resource::Session { owner, tenant, .. } = &request.resource {
        found.insert((*owner, *tenant));
    }
    if let Some(origin) = request.on_behalf_of {
        found.insert((origin, request.resource.tenant()));
    }
    found.retain(|(who, _)| *who != request.principal);
    found
}

fn person(who: EntityUid, kind: &str, tenant: &EntityUid, roles: &[&RoleName]) -> Result<Entity, Fault> {
    let attributes = HashMap::from([
        ("kind".to_owned(), Value::new_string(kind.to_owned())),
        ("tenant".to_owned(), Value::new_entity_uid(tenant.clone())),
    ]);
    let parents = roles.iter().map(|role| role.uid.clone()).collect();
    Ok(Entity::new(who, attributes, parents)?)
}

/// Returns a principal that the request names but that does not ask. Its roles are known only if it is of the same tenant.
fn other(
    snapshot: &Snapshot,
    who: PrincipalId,
    tenant: TenantId,
    now: Timestamp,
    names: &Vocabulary,
) -> Result<Entity, Fault> {
    let roles = if tenant == snapshot.tenant() { snapshot.closure_of(who, now) } else { vec![] };
    let tenant = uid(&names.tenant, tenant.to_string());
    person(uid(&names.principal, who.to_string()), "UNSPECIFIED", &tenant, &roles)
}

fn attributes(resource: &Resource<'_>, names: &Vocabulary) -> HashMap<String, Value> {
    let text = |value: &str| Value::new_string(value.to_owned());
    match resource {
        Resource::Tenant(_) => HashMap::new(),
        Resource::Session { owner, .. } => {
            let owner = uid(&names.principal, owner.to_string());
            HashMap::from([("owner".to_owned(), Value::new_entity_uid(owner))])
        }
        Resource::Tool { name, version, effects, risk, classification, tags, development, .. } => {
            HashMap::from([
                ("name".to_owned(), text(name)),
                ("version".to_owned(), text(version)),
                ("effects".to_owned(), text(effects)),
                ("risk".to_owned(), text(risk)),
                ("classification".to_owned(), text(classification)),
                ("tags".to_owned(), Value::new_set(tags.iter().map(|tag| text(tag)))),
                ("development".to_owned(), Value::new_bool(*development)),
            ])
        }
    }
}

fn context(
    request: &Request<'_>,
    target: Target,
    needs: Needs,
    names: &Vocabulary,
    slice: &mut Vec<Entity>,
) -> Result<Context, Fault> {
    let given = &request.context;
    let mut pairs = Vec::with_capacity(6);
    if needs.now {
        pairs.push(("now".to_owned(), Value::new_datetime(rfc3339(given.now))));
    }
    pairs.push(("depth".to_owned(), Value::new_long(given.depth.into())));
    if let Some(ip) = given.source_ip.filter(|_| needs.source_ip) {
        pairs.push(("sourceIp".to_owned(), Value::new_ip(ip.to_string())));
    }
    if let Some(session) = given.session {
        pairs.push(("session".to_owned(), Value::new_string(session.to_string())));
    }
    if let Some(origin) = request.on_behalf_of {
        let origin = uid(&names.principal, origin.to_string());
        pairs.push(("onBehalfOf".to_owned(), Value::new_entity_uid(origin)));
    }
    if target == Target::Tool && needs.arguments {
        pairs.push(("arguments".to_owned(), arguments(request, names, slice)?));
    }
    Ok(Context::from_pairs(pairs)?)
}

/// Returns the record of holders; those that hold something become entities.
fn arguments(request: &Request<'_>, names: &Vocabulary, slice: &mut Vec<Entity>) -> Result<Value, Fault> {
    let mut held: [Vec<(String, Value)>; 5] = Default::default();
    for (path, value) in request.context.arguments.into_iter().flatten() {
        let (holder, value) = match value {
            PolicyValue::String(text) => (0, Value::new_string(text.clone())),
            PolicyValue::Long(number) => (1, Value::new_long(*number)),
            PolicyValue::Bool(truth) => (2, Value::new_bool(*truth)),
            PolicyValue::Decimal(units) => (3, Value::new_decimal(decimal(*units))),
            PolicyValue::Set(texts) => {
                (4, Value::new_set(texts.iter().map(|t| Value::new_string(t.clone()))))
            }
        };
        held[holder].push((path.clone(), value));
    }
    let holder = |kind: &EntityTypeName| uid(kind, "");
    for (kind, tags) in names.holders.iter().zip(held) {
        if !tags.is_empty() {
            slice.push(Entity::new_with_tags(holder(kind), [], [], tags)?);
        }
    }
    let fields = ["strings", "longs", "booleans", "decimals", "sets"].iter().zip(&names.holders);
    let fields = fields.map(|(field, kind)| ((*field).to_owned(), Value::new_entity_uid(holder(kind))));
    Ok(Value::new_record(fields)?)
}

/// Writes ten-thousandths as Cedar reads them.
fn decimal(units: i64) -> String {
    let sign = if units < 0 { "-" } else { "" };
    let magnitude = units.unsigned_abs();
    format!("{sign}{}.{:04}", magnitude / 10_000, magnitude % 10_000)
}

/// Writes a time as Cedar reads it; times outside the years 0 to 9999 become the epoch, long past.
fn rfc3339(at: Timestamp) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .ok()
        .filter(|time| (0..=9999).contains(&time.year()))
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, clock) = (time.date(), time.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second(),
        clock.millisecond()
    )
}

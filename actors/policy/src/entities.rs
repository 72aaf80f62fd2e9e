//! The slice of the world that a decision sees: the principal, the resource, the action, and whom else the request names.

use std::collections::{HashMap, HashSet};

use aesp_proto::{PrincipalId, TenantId, Timestamp};
use cedar_policy::{Context, Entities, Entity, EntityTypeName, EntityUid, RestrictedExpression as Value};
use time::OffsetDateTime;

use crate::{
    PolicyValue, Request, Resource, Snapshot,
    schema::{Action, Target, Vocabulary, uid, vocabulary},
    snapshot::RoleName,
};

/// A request in Cedar's terms.
pub(crate) struct Slice {
    pub(crate) request: cedar_policy::Request,
    pub(crate) entities: Entities,
    /// The principal itself and its ancestors, and `None`: the principal scopes that the request is within.
    pub(crate) principals: Vec<Option<EntityUid>>,
    /// As much for the resource.
    pub(crate) resources: Vec<Option<EntityUid>>,
}

/// What can't be said in Cedar's terms; the decision is a denial.
type Fault = Box<dyn std::error::Error + Send + Sync>;

impl Slice {
    pub(crate) fn new(
        snapshot: &Snapshot,
        request: &Request<'_>,
        action: &Action,
        roles: &[&RoleName],
    ) -> Result<Self, Fault> {
        let names = vocabulary();
        let tenant = uid(&names.tenant, request.tenant.to_string());
        let mut slice = Vec::with_capacity(8);
        let principal = uid(&names.principal, request.principal.to_string());
        slice.push(person(principal.clone(), request.principal_kind, &tenant, roles)?);
        slice.push(action.entity.clone());
        let mut strangers = HashSet::new();

        let (resource, parents) = match &request.resource {
            Resource::Tenant(tenant) => (uid(&names.tenant, tenant.to_string()), HashSet::new()),
            Resource::Session { id, owner, tenant } => {
                let entity = uid(&names.session, id.to_string());
                let parents = HashSet::from([uid(&names.tenant, tenant.to_string())]);
                let owner_uid = uid(&names.principal, owner.to_string());
                let attributes = HashMap::from([("owner".to_owned(), Value::new_entity_uid(owner_uid))]);
                slice.push(Entity::new(entity.clone(), attributes, parents.clone())?);
                strangers.insert((*owner, *tenant));
                (entity, parents)
            }
            Resource::Tool { .. } => tool(&request.resource, names, &mut slice)?,
        };
        if let Some(origin) = request.on_behalf_of {
            strangers.insert((origin, request.resource.tenant()));
        }
        strangers.remove(&(request.principal, request.tenant));
        for (stranger, tenant) in strangers {
            slice.push(other(snapshot, stranger, tenant, request.context.now, names)?);
        }

        let context = context(request, action.target, names, &mut slice)?;
        let mut principals: Vec<_> = roles.iter().map(|role| Some(role.uid.clone())).collect();
        principals.extend([None, Some(principal.clone())]);
        let mut resources: Vec<_> = parents.into_iter().map(Some).collect();
        resources.extend([None, Some(resource.clone())]);
        let request = cedar_policy::Request::new(principal, action.uid.clone(), resource, context, None)?;
        Ok(Self { request, entities: Entities::from_entities(slice, None)?, principals, resources })
    }
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

fn tool(
    resource: &Resource<'_>,
    names: &Vocabulary,
    slice: &mut Vec<Entity>,
) -> Result<(EntityUid, HashSet<EntityUid>), Fault> {
    let &Resource::Tool { tenant, name, version, effects, risk, classification, tags, development, .. } =
        resource
    else {
        unreachable!("called for tools only")
    };
    let entity = uid(&names.tool, name);
    let mut parents: HashSet<_> = tags.iter().map(|tag| uid(&names.tag, tag)).collect();
    parents.insert(uid(&names.classification, classification));
    parents.insert(uid(&names.tenant, tenant.to_string()));
    let text = |value: &str| Value::new_string(value.to_owned());
    let attributes = HashMap::from([
        ("name".to_owned(), text(name)),
        ("version".to_owned(), text(version)),
        ("effects".to_owned(), text(effects)),
        ("risk".to_owned(), text(risk)),
        ("classification".to_owned(), text(classification)),
        ("tags".to_owned(), Value::new_set(tags.iter().map(|tag| text(tag)))),
        ("development".to_owned(), Value::new_bool(development)),
    ]);
    slice.push(Entity::new(entity.clone(), attributes, parents.clone())?);
    Ok((entity, parents))
}

fn context(
    request: &Request<'_>,
    target: Target,
    names: &Vocabulary,
    slice: &mut Vec<Entity>,
) -> Result<Context, Fault> {
    let given = &request.context;
    let mut pairs = Vec::with_capacity(6);
    pairs.push(("now".to_owned(), Value::new_datetime(rfc3339(given.now))));
    pairs.push(("depth".to_owned(), Value::new_long(given.depth.into())));
    if let Some(ip) = given.source_ip {
        pairs.push(("sourceIp".to_owned(), Value::new_ip(ip.to_string())));
    }
    if let Some(session) = given.session {
        pairs.push(("session".to_owned(), Value::new_string(session.to_string())));
    }
    if let Some(origin) = request.on_behalf_of {
        let origin = uid(&names.principal, origin.to_string());
        pairs.push(("onBehalfOf".to_owned(), Value::new_entity_uid(origin)));
    }
    if target == Target::Tool {
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

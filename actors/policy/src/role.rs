use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use aesp_proto::v1;
use cedar_policy::{EntityUid, Policy, PolicyId};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    index::Entry,
    needs::{Needs, Reads},
    schema::{ActionIndex, Target, Vocabulary, uid, vocabulary},
};

/// How many grants a role may have, and how many actions and resources a grant.
const MAX_GRANTS: usize = 200;
const MAX_ITEMS: usize = 500;

/// A role: what its members may do, and the roles whose grants they have as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Unique in the tenant: a letter, then at most 63 letters, digits, `_`, `-` or `.`.
    pub name: String,
    /// For people.
    pub description: String,
    /// The roles that it inherits from.
    pub inherits: Vec<String>,
    /// What it grants itself.
    pub grants: Vec<Grant>,
    /// Made by the Host; never stored.
    #[serde(skip)]
    pub built_in: bool,
}

/// Every one of the actions on every one of the resources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Action ids, groups (`session.*`, `*.read`) or `*`.
    pub actions: Vec<String>,
    /// `tool:NAME`, `tag:TAG`, `classification:NAME`, `session:own` or `*`.
    pub resources: Vec<String>,
}

/// A resource of a grant, read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    All,
    Tool(String),
    Tag(String),
    Classification(String),
    OwnSessions,
}

impl FromStr for Extent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| Err(Error::Invalid(format!("grant resource {text:?}: {why}")));
        match text.split_once(':') {
            _ if text.len() > 200 => refused("longer than 200 bytes"),
            None if text == "*" => Ok(Self::All),
            Some((_, "")) => refused("has no name"),
            Some(("tool", name)) => Ok(Self::Tool(name.to_owned())),
            Some(("tag", name)) => Ok(Self::Tag(name.to_owned())),
            Some(("classification", name)) => Ok(Self::Classification(name.to_owned())),
            Some(("session", "own")) => Ok(Self::OwnSessions),
            _ => refused("expected tool:NAME, tag:TAG, classification:NAME, session:own or *"),
        }
    }
}

impl Extent {
    fn covers(&self, target: Target) -> bool {
        match self {
            Self::All => true,
            Self::Tool(_) | Self::Tag(_) | Self::Classification(_) => target == Target::Tool,
            Self::OwnSessions => target == Target::Session,
        }
    }

    /// Returns the Cedar scope and condition.
    fn scope(&self, names: &Vocabulary) -> (String, &'static str) {
        match self {
            Self::All => ("resource".into(), ""),
            Self::Tool(name) => (format!("resource == {}", uid(&names.tool, name)), ""),
            Self::Tag(name) => (format!("resource in {}", uid(&names.tag, name)), ""),
            Self::Classification(name) => (format!("resource in {}", uid(&names.classification, name)), ""),
            Self::OwnSessions => {
                (format!("resource is {}", names.session), " when { resource.owner == principal }")
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Checks the name of a role.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic());
    if first && name.len() <= 64 && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
        return Ok(());
    }
    let what = "a letter, then at most 63 letters, digits, underscores, hyphens or dots";
    Err(Error::Invalid(format!("a role's name is {what}")))
}

impl Role {
    /// Checks everything that can be checked without the other roles of the tenant.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        if self.description.len() > 1000 {
            return Err(Error::Invalid("a role's description is at most 1000 bytes".into()));
        }
        if self.inherits.len() > 50 || self.grants.len() > MAX_GRANTS {
            return Err(Error::Invalid(format!(
                "a role inherits at most 50 roles and has at most {MAX_GRANTS} grants"
            )));
        }
        self.inherits.iter().try_for_each(|parent| check_name(parent))?;
        for grant in &self.grants {
            if grant.actions.is_empty() || grant.resources.is_empty() {
                return Err(Error::Invalid("a grant names at least one action and one resource".into()));
            }
            if grant.actions.len() > MAX_ITEMS || grant.resources.len() > MAX_ITEMS {
                return Err(Error::Invalid(format!(
                    "a grant names at most {MAX_ITEMS} actions and resources"
                )));
            }
            for resource in &grant.resources {
                covered(grant, &resource.parse()?, vocabulary())?;
            }
        }
        Ok(())
    }

    /// Returns the Cedar policies that the grants amount to, one a grant and resource.
    pub(crate) fn compile(&self) -> Result<Vec<Entry>, Error> {
        let names = vocabulary();
        let source: Arc<str> = format!("role:{}", self.name).into();
        let role = uid(&names.role, &self.name);
        let mut entries = Vec::new();
        for grant in &self.grants {
            for resource in &grant.resources {
                let extent: Extent = resource.parse()?;
                let actions = covered(grant, &extent, names)?;
                let id = PolicyId::new(format!("{source}#{}", entries.len()));
                let text = permit(&role, &actions, &extent, names);
                let policy = Policy::parse(Some(id), text).map_err(|e| Error::Invalid(e.to_string()))?;
                // The only condition that a grant may have compares the session's owner.
                let conditional = extent == Extent::OwnSessions;
                let needs = Needs { attributes: conditional, ..Needs::default() };
                let reads = Reads { needs, unconditional: !conditional };
                entries.push(Entry::reading(reads, policy, source.clone()));
            }
        }
        Ok(entries)
    }

    /// Returns what the role grants itself, action by action.
    pub(crate) fn permissions(&self) -> Vec<v1::EffectivePermission> {
        let names = vocabulary();
        let mut found = Vec::new();
        for grant in &self.grants {
            for resource in &grant.resources {
                let actions =
                    resource.parse().and_then(|extent| covered(grant, &extent, names)).unwrap_or_default();
                found.extend(actions.into_iter().map(|index| v1::EffectivePermission {
                    action: names.actions[usize::from(index.0)].name.clone(),
                    resource: resource.clone(),
                    role: self.name.clone(),
                }));
            }
        }
        found
    }
}

/// Returns the actions of the grant that can be done to the resource.
fn covered(grant: &Grant, extent: &Extent, names: &Vocabulary) -> Result<BTreeSet<ActionIndex>, Error> {
    let mut actions = BTreeSet::new();
    for action in &grant.actions {
        let members: Vec<_> = if action == "*" { names.all().collect() } else { names.members(action) };
        if members.is_empty() {
            return Err(Error::Invalid(format!("grant action {action:?}: there is no such action or group")));
        }
        let before = members.into_iter();
        let mut applying =
            before.filter(|index| extent.covers(names.actions[usize::from(index.0)].target)).peekable();
        if applying.peek().is_none() {
            let what = format!("grant action {action:?} does not apply to the grant's resource");
            return Err(Error::Invalid(what));
        }
        actions.extend(applying);
    }
    Ok(actions)
}

fn permit(role: &EntityUid, actions: &BTreeSet<ActionIndex>, extent: &Extent, names: &Vocabulary) -> String {
    let uids: Vec<_> = actions.iter().map(|i| names.actions[usize::from(i.0)].uid.to_string()).collect();
    let action = match uids.as_slice() {
        all if all.len() == names.actions.len() => "action".to_owned(),
        [one] => format!("action == {one}"),
        some => format!("action in [{}]", some.join(", ")),
    };
    let (resource, condition) = extent.scope(names);
    format!("permit(principal in {role}, {action}, {resource}){condition};")
}

impl From<v1::Role> for Role {
    fn from(role: v1::Role) -> Self {
        let grants = role.grants.into_iter().map(|g| Grant { actions: g.actions, resources: g.resources });
        Self {
            name: role.name,
            description: role.description,
            inherits: role.inherits,
            grants: grants.collect(),
            built_in: false,
        }
    }
}

impl Role {
    /// Returns the role as it travels.
    #[must_use]
    pub fn to_wire(&self, tenant: aesp_proto::TenantId) -> v1::Role {
        let grants = self.grants.iter();
        v1::Role {
            name: self.name.clone(),
            tenant_id: tenant.to_string(),
            description: self.description.clone(),
            inherits: self.inherits.clone(),
            grants: grants
                .map(|g| v1::Grant { actions: g.actions.clone(), resources: g.resources.clone() })
                .collect(),
            built_in: self.built_in,
        }
    }
}

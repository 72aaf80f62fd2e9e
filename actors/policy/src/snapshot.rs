use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aesp_proto::{PrincipalId, Revision, TenantId, Timestamp, TokenId, v1};
use aesp_storage::Transaction;
use cedar_policy::EntityUid;

use crate::{
    Error, Role, builtin,
    index::{Entry, Index},
    rows::{Assignment, StoredPolicy, schema_fingerprint},
    schema::{uid, vocabulary},
    text,
};

/// All rights within a tenant at one revision, ready to decide. Immutable; shared by everyone on the node.
#[derive(Debug)]
pub struct Snapshot {
    tenant: TenantId,
    revision: Revision,
    roles: HashMap<String, CompiledRole>,
    assignments: HashMap<PrincipalId, Vec<Assignment>>,
    policies: HashMap<TokenId, Arc<CompiledPolicy>>,
    pub(crate) index: Index,
    /// Stored policies that this build can't read or no longer accepts. While there are any, nothing but looking after
    /// policies is permitted: one of them may be the forbid that matters.
    pub(crate) broken: Vec<String>,
}

/// What a snapshot is made of.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The tenant's own roles; the built-in ones come by themselves.
    pub roles: Vec<Role>,
    /// Who has which role.
    pub assignments: Vec<Assignment>,
    /// The tenant's policies.
    pub policies: Vec<StoredPolicy>,
}

#[derive(Debug)]
struct CompiledRole {
    role: Role,
    own: Vec<Entry>,
    /// The role itself and all that it inherits from, in the order of their names.
    closure: Vec<RoleName>,
}

#[derive(Debug)]
struct CompiledPolicy {
    text: String,
    entries: Vec<Entry>,
}

/// A role's name, as text and as Cedar entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoleName {
    pub(crate) name: Arc<str>,
    pub(crate) uid: EntityUid,
}

impl Snapshot {
    /// Reads the rights of a tenant.
    ///
    /// # Errors
    /// [`Error::Store`], or [`Error::Invalid`] if a stored role is not what this build writes.
    pub async fn load(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        let parts = Parts::read(tx, tenant).await?;
        Self::assemble(tenant, tx.revision(tenant).await?, parts, None)
    }

    /// Reads the rights of the tenant anew. Policies that have not changed are not compiled again.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn reload(&self, tx: &Transaction) -> Result<Self, Error> {
        let parts = Parts::read(tx, self.tenant).await?;
        Self::assemble(self.tenant, tx.revision(self.tenant).await?, parts, Some(self))
    }

    /// Makes a snapshot without a store.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::NoSuchRole`] or [`Error::Cycle`] for roles that could not have been created.
    pub fn from_parts(tenant: TenantId, revision: Revision, parts: Parts) -> Result<Self, Error> {
        Self::assemble(tenant, revision, parts, None)
    }

    fn assemble(
        tenant: TenantId,
        revision: Revision,
        parts: Parts,
        last: Option<&Self>,
    ) -> Result<Self, Error> {
        let own = builtin::built_in(tenant).iter().cloned().chain(parts.roles);
        let roles = compile_roles(own, last)?;
        let mut broken = Vec::new();
        let mut policies = HashMap::new();
        for stored in parts.policies {
            let known = last.and_then(|last| last.policies.get(&stored.id)).filter(|p| p.text == stored.text);
            match known.cloned().map_or_else(|| compile_policy(&stored).map(Arc::new), Ok) {
                Ok(compiled) => drop(policies.insert(stored.id, compiled)),
                Err(faults) => broken.push(format!("{}: {}", stored.id, faults.join("; "))),
            }
        }
        let mut assignments: HashMap<_, Vec<_>> = HashMap::new();
        for assignment in parts.assignments {
            assignments.entry(assignment.principal).or_default().push(assignment);
        }
        let of_roles = roles.values().flat_map(|role| &role.own);
        let index = Index::build(of_roles.chain(policies.values().flat_map(|p| &p.entries)).cloned());
        Ok(Self { tenant, revision, roles, assignments, policies, index, broken })
    }

    /// Returns whose rights these are.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Returns the revision that these rights hold at.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the names of the roles that a principal has at `now`: those assigned to it, then those inherited.
    #[must_use]
    pub fn roles_of(&self, principal: PrincipalId, now: Timestamp) -> Vec<String> {
        let mut names: Vec<String> =
            self.assigned(principal, now).map(|role| role.role.name.clone()).collect();
        let direct = names.len();
        for role in self.closure_of(principal, now) {
            if !names[..direct].iter().any(|name| **name == *role.name) {
                names.push(role.name.to_string());
            }
        }
        names
    }

    /// Returns what the roles of a principal grant it at `now`. Policies may forbid some of it, and permit more.
    #[must_use]
    pub fn effective(&self, principal: PrincipalId, now: Timestamp) -> Vec<v1::EffectivePermission> {
        let roles = self.closure_of(principal, now);
        let roles = roles.iter().filter_map(|name| self.roles.get(&*name.name));
        roles.flat_map(|role| role.role.permissions()).collect()
    }

    /// Returns the roles of the tenant, built-in ones included, by name.
    #[must_use]
    pub fn roles(&self) -> Vec<&Role> {
        let mut roles: Vec<_> = self.roles.values().map(|role| &role.role).collect();
        roles.sort_by(|a, b| (!a.built_in, &a.name).cmp(&(!b.built_in, &b.name)));
        roles
    }

    /// Returns which stored policies this build can't read or no longer accepts, and why; for the log. While there are any,
    /// everything is denied but listing, reading and deleting policies.
    #[must_use]
    pub fn unusable(&self) -> &[String] {
        &self.broken
    }

    /// Returns every role that a principal has at `now`, inherited ones included, each once.
    pub(crate) fn closure_of(&self, principal: PrincipalId, now: Timestamp) -> Vec<&RoleName> {
        let mut found: Vec<&RoleName> = Vec::new();
        for role in self.assigned(principal, now) {
            for member in &role.closure {
                if !found
                    .iter()
                    .any(|other| Arc::ptr_eq(&other.name, &member.name) || other.name == member.name)
                {
                    found.push(member);
                }
            }
        }
        found
    }

    fn assigned(&self, principal: PrincipalId, now: Timestamp) -> impl Iterator<Item = &CompiledRole> {
        let given = self.assignments.get(&principal).into_iter().flatten();
        given.filter(move |assignment| assignment.holds(now)).filter_map(|a| self.roles.get(&a.role))
    }
}

impl Parts {
    async fn read(tx: &Transaction, tenant: TenantId) -> Result<Self, Error> {
        Ok(Self {
            roles: tx.scan_all(tenant, vec![]).await?,
            assignments: tx.scan_all(tenant, vec![]).await?,
            policies: tx.scan_all(tenant, vec![]).await?,
        })
    }
}

fn compile_roles(
    roles: impl Iterator<Item = Role>,
    last: Option<&Snapshot>,
) -> Result<HashMap<String, CompiledRole>, Error> {
    let names = vocabulary();
    let roles: HashMap<String, Role> = roles.map(|role| (role.name.clone(), role)).collect();
    let texts: HashMap<&str, RoleName> = roles
        .keys()
        .map(|name| (name.as_str(), RoleName { name: name.as_str().into(), uid: uid(&names.role, name) }))
        .collect();
    let mut compiled = HashMap::new();
    for (name, role) in &roles {
        let known = last.and_then(|last| last.roles.get(name)).filter(|known| known.role == *role);
        let own = match known {
            Some(known) => known.own.clone(),
            None => role.compile()?,
        };
        let mut closure: Vec<_> =
            ancestors(role, &roles)?.into_iter().map(|name| texts[name].clone()).collect();
        closure.sort_by(|a, b| a.name.cmp(&b.name));
        compiled.insert(name.clone(), CompiledRole { role: role.clone(), own, closure });
    }
    Ok(compiled)
}

/// Returns the role's name and the names of all that it inherits from.
fn ancestors<'a>(role: &'a Role, roles: &'a HashMap<String, Role>) -> Result<HashSet<&'a str>, Error> {
    let mut found = HashSet::from([role.name.as_str()]);
    let mut open: Vec<&str> = role.inherits.iter().map(String::as_str).collect();
    while let Some(name) = open.pop() {
        let parent = roles.get(name).ok_or_else(|| Error::NoSuchRole(name.to_owned()))?;
        if name == role.name {
            return Err(Error::Cycle(name.to_owned()));
        }
        if found.insert(name) {
            open.extend(parent.inherits.iter().map(String::as_str));
        }
    }
    Ok(found)
}

fn compile_policy(stored: &StoredPolicy) -> Result<CompiledPolicy, Vec<String>> {
    let source: Arc<str> = stored.id.to_string().into();
    let entries = if stored.schema == schema_fingerprint() {
        text::recompile(&source, &stored.text)?
    } else {
        text::compile(&source, &stored.text)?
    };
    Ok(CompiledPolicy { text: stored.text.clone(), entries })
}

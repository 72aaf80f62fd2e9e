use std::{collections::HashMap, sync::Arc};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use crate::{
    needs::{Needs, Reads},
    schema::{ActionIndex, vocabulary},
};

/// A Cedar policy with where it comes from and what its annotations say.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) policy: Policy,
    /// `role:NAME` or the policy's id.
    pub(crate) source: Arc<str>,
    pub(crate) obligation: Option<Arc<str>>,
    /// What would lift this forbid.
    pub(crate) remedy: Option<Remedy>,
    pub(crate) needs: Needs,
    /// Whether it has no condition: its scope decides alone.
    pub(crate) unconditional: bool,
}

/// What would lift a forbid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    StepUp(Arc<str>),
    Approval(Arc<str>),
}

impl Entry {
    pub(crate) fn new(policy: Policy, source: Arc<str>) -> Self {
        let reads = Reads::of(&policy);
        Self::reading(reads, policy, source)
    }

    /// Makes an entry of a policy whose reads are known.
    pub(crate) fn reading(reads: Reads, policy: Policy, source: Arc<str>) -> Self {
        let Reads { needs, unconditional } = reads;
        let note = |key: &str| policy.annotation(key).map(Arc::from);
        let (obligation, remedy) = match policy.effect() {
            Effect::Permit => (note("obligation"), None),
            Effect::Forbid => {
                (None, note("step_up").map(Remedy::StepUp).or_else(|| note("approval").map(Remedy::Approval)))
            }
        };
        Self { obligation, remedy, needs, unconditional, policy, source }
    }

    /// Tells whether every request that the index leads to it is permitted by it, so that nothing is left to evaluate: a permit
    /// without a condition, whose scope asks of principal and resource no more than the look-up does.
    fn is_settled(&self) -> bool {
        let names = vocabulary();
        let principal = match self.policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
            // What is looked up are the principal and its ancestors, which are never of its own type.
            PrincipalConstraint::Eq(uid) => *uid.type_name() == names.principal,
            PrincipalConstraint::Is(_) | PrincipalConstraint::IsIn(..) => false,
        };
        let resource = match self.policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
            ResourceConstraint::Eq(uid) => [&names.tool, &names.session].contains(&uid.type_name()),
            ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => false,
        };
        self.unconditional && self.policy.effect() == Effect::Permit && principal && resource
    }
}

/// What a policy's scope asks of action, principal and resource; `None` asks nothing.
type Scope = (Option<ActionIndex>, Option<EntityUid>, Option<EntityUid>);

/// The policies of one scope.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// Permits that hold for every request that leads here.
    pub(crate) settled: Vec<PolicyId>,
    /// The others, which Cedar evaluates.
    pub(crate) set: PolicySet,
    /// What the conditions of these read.
    pub(crate) needs: Needs,
}

/// The policies of an action's scope, by what their scopes ask of the principal, then of the resource.
type ByPrincipal = HashMap<Option<EntityUid>, HashMap<Option<EntityUid>, Place>>;

/// The policies of a tenant by their scopes, so that a decision evaluates only those that can apply.
///
/// A scope names at most one entity for principal and resource. A request is within it only if that entity is the principal
/// (the resource) itself or one of its ancestors, all of which the request knows; so looking up each of them finds every
/// policy that can apply. Policies in different places are disjoint, which makes evaluating place by place the same as
/// evaluating all at once: any forbid denies, any permit permits otherwise.
#[derive(Debug, Default)]
pub(crate) struct Index {
    places: HashMap<Option<ActionIndex>, ByPrincipal>,
    entries: HashMap<PolicyId, Entry>,
}

impl Index {
    pub(crate) fn build(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut index = Self::default();
        for entry in entries {
            for (action, principal, resource) in scopes(&entry.policy) {
                let by_resource = index.places.entry(action).or_default().entry(principal).or_default();
                let place = by_resource.entry(resource).or_default();
                if entry.is_settled() {
                    place.settled.push(entry.policy.id().clone());
                } else {
                    place.set.add(entry.policy.clone()).expect("ids are unique: source and number");
                    place.needs = place.needs | entry.needs;
                }
            }
            index.entries.insert(entry.policy.id().clone(), entry);
        }
        index
    }

    /// Returns the policies that can apply, in disjoint sets.
    pub(crate) fn candidates<'a, 'k>(
        &'a self,
        action: ActionIndex,
        principals: &'k [Option<EntityUid>],
        resources: &'k [Option<EntityUid>],
    ) -> impl Iterator<Item = &'a Place> {
        [None, Some(action)]
            .into_iter()
            .filter_map(|key| self.places.get(&key))
            .flat_map(move |by_principal| principals.iter().filter_map(|key| by_principal.get(key)))
            .flat_map(move |by_resource| resources.iter().filter_map(|key| by_resource.get(key)))
    }

    pub(crate) fn entry(&self, id: &PolicyId) -> Option<&Entry> {
        self.entries.get(id)
    }

    #[cfg(test)]
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }
}

fn scopes(policy: &Policy) -> Vec<Scope> {
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
        PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
        ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
    };
    let mut actions: Vec<Option<ActionIndex>> = match policy.action_constraint() {
        ActionConstraint::Any => vec![None],
        ActionConstraint::Eq(uid) => members(&uid),
        ActionConstraint::In(uids) => uids.iter().flat_map(members).collect(),
    };
    actions.sort_unstable();
    actions.dedup();
    actions.into_iter().map(|action| (action, principal.clone(), resource.clone())).collect()
}

fn members(uid: &EntityUid) -> Vec<Option<ActionIndex>> {
    vocabulary().members(uid.id().unescaped()).into_iter().map(Some).collect()
}

use std::{ops::BitOr, sync::Arc};

use aesp_proto::{DecisionId, Entropy, ErrorCode, TenantId};
use cedar_policy::{AuthorizationError, Authorizer, Effect, PolicyId, PolicySet};

use crate::{
    Basis, Decision, Denied, Obligation, Pending, Permit, Request, Resource, Snapshot, StepUp,
    entities::{Fault, Scope, Slice},
    index::{Entry, Place, Remedy},
    needs::Needs,
    schema::{Action, Target, vocabulary},
    snapshot::RoleName,
};

/// Decides. The only maker of permits.
///
/// Denied unless a role or policy permits, no policy forbids, no policy fails to evaluate, the principal has every role that
/// the contract requires, and the resource lies in the principal's tenant (operators of the platform may administer others).
#[must_use]
pub fn authorize(snapshot: &Snapshot, entropy: &Entropy, request: &Request<'_>) -> Decision {
    let basis = Basis {
        decision: DecisionId::random(entropy),
        revision: snapshot.revision(),
        roles: Vec::new(),
        policies: Vec::new(),
        evaluated: 0,
        errors: Vec::new(),
    };
    match decide(snapshot, request, basis) {
        Ok(permit) => Decision::Permit(permit),
        Err(refusal) => *refusal,
    }
}

/// Decides for one that acts on behalf of another: both must be permitted, and both permits' obligations hold.
///
/// Each party is decided by the snapshot of its own tenant. The permit is `actor`'s; the first refusal is the answer,
/// `origin`'s before `actor`'s.
#[must_use]
pub fn authorize_both(
    entropy: &Entropy,
    actor: (&Snapshot, &Request<'_>),
    origin: (&Snapshot, &Request<'_>),
) -> Decision {
    let granted = match authorize(origin.0, entropy, origin.1) {
        Decision::Permit(permit) => permit,
        refusal => return refusal,
    };
    match authorize(actor.0, entropy, actor.1) {
        Decision::Permit(permit) => Decision::Permit(permit.and(granted)),
        refusal => refusal,
    }
}

type Refusal = Box<Decision>;

fn decide(snapshot: &Snapshot, request: &Request<'_>, mut basis: Basis) -> Result<Permit, Refusal> {
    let Some((index, action)) = vocabulary().action(request.action) else {
        return deny(basis, ErrorCode::AuthorizationDenied, "there is no such operation");
    };
    if !tenants_allow(snapshot, request, action) {
        return deny(basis, ErrorCode::TenantAccessDenied, "the principal may not act there");
    }
    let roles = snapshot.closure_of(request.principal, request.context.now);
    basis.roles = roles.iter().map(|role| role.name.clone()).collect();
    if !snapshot.broken.is_empty()
        && !matches!(action.name.as_str(), "policy.list" | "policy.read" | "policy.delete")
    {
        basis.errors.clone_from(&snapshot.broken);
        return deny(basis, ErrorCode::PolicyEvaluationFailed, "a policy of the tenant can't be read");
    }
    if !fits(action.target, &request.resource) {
        basis.errors.push(format!("{} does not apply to this kind of resource", action.name));
        return deny(
            basis,
            ErrorCode::PolicyEvaluationFailed,
            "the operation does not apply to the resource",
        );
    }
    let scope = Scope::of(request, &roles);
    let places: Vec<_> = snapshot.index.candidates(index, &scope.principals, &scope.resources).collect();
    let candidates = Candidates::of(&places);
    basis.evaluated = candidates.count();
    let slice = match candidates.slice(snapshot, request, action, &roles, scope) {
        Ok(slice) => slice,
        Err(fault) => {
            basis.errors.push(fault.to_string());
            return deny(basis, ErrorCode::PolicyEvaluationFailed, "the request can't be decided");
        }
    };
    let permits = evaluate(snapshot, &candidates, slice.as_ref(), request, &mut basis)?;
    if let Resource::Tool { required_roles, .. } = &request.resource
        && let Some(missing) =
            required_roles.iter().find(|role| !basis.roles.iter().any(|had| **had == ***role))
    {
        return deny(basis, ErrorCode::RoleRequired, format!("the tool requires the role {missing:?}"));
    }
    let obligations = permits.iter().filter_map(|entry| {
        entry.obligation.clone().map(|text| Obligation { policy: entry.source.clone(), text })
    });
    let obligations = obligations.collect();
    Ok(Permit::new(request.principal, request.on_behalf_of, request.action, obligations, basis))
}

fn tenants_allow(snapshot: &Snapshot, request: &Request<'_>, action: &Action) -> bool {
    if snapshot.tenant() != request.tenant {
        return false;
    }
    let operator = request.tenant == TenantId::PLATFORM;
    if action.platform_only && !operator {
        return false;
    }
    let home = request.resource.tenant() == request.tenant;
    home || (operator && (!action.home_only || request.on_behalf_of.is_some()))
}

fn fits(target: Target, resource: &Resource<'_>) -> bool {
    match resource {
        Resource::Tenant(_) => target == Target::Tenant,
        Resource::Session { .. } => target == Target::Session,
        Resource::Tool { .. } => target == Target::Tool,
    }
}

/// The policies that can apply to a request.
struct Candidates<'a> {
    /// Permits that hold for it.
    settled: Vec<&'a PolicyId>,
    /// What Cedar has to evaluate; none of them empty.
    sets: Vec<&'a PolicySet>,
    /// What the conditions of these read.
    needs: Needs,
}

impl<'a> Candidates<'a> {
    fn of(places: &[&'a Place]) -> Self {
        Self {
            settled: places.iter().flat_map(|place| &place.settled).collect(),
            sets: places.iter().map(|place| &place.set).filter(|set| !set.is_empty()).collect(),
            needs: places.iter().map(|place| place.needs).fold(Needs::default(), BitOr::bitor),
        }
    }

    fn count(&self) -> usize {
        self.settled.len() + self.sets.iter().map(|set| set.num_of_policies()).sum::<usize>()
    }

    /// Returns what they are evaluated against; nothing if none has to be.
    fn slice(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        action: &Action,
        roles: &[&RoleName],
        scope: Scope,
    ) -> Result<Option<Slice>, Fault> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        Slice::new(snapshot, request, action, roles, scope, self.needs).map(Some)
    }
}

/// Evaluates the policies that can apply, and returns the permits that were satisfied.
fn evaluate<'a>(
    snapshot: &'a Snapshot,
    candidates: &Candidates<'_>,
    slice: Option<&Slice>,
    request: &Request<'_>,
    basis: &mut Basis,
) -> Result<Vec<&'a Entry>, Refusal> {
    let mut verdict = slice.map(|slice| run(snapshot, &candidates.sets, slice)).unwrap_or_default();
    verdict.permits.extend(candidates.settled.iter().map(|id| entry(snapshot, id)));
    if !verdict.errors.is_empty() {
        basis.errors = verdict.errors;
        basis.policies = sources(&verdict.failed);
        return deny(
            basis.clone(),
            ErrorCode::PolicyEvaluationFailed,
            "a policy of the tenant could not be evaluated",
        );
    }
    if verdict.forbids.is_empty() {
        basis.policies = sources(&verdict.permits);
        if verdict.permits.is_empty() {
            let reason = format!("nothing grants {} here", request.action);
            return deny(basis.clone(), ErrorCode::InsufficientPermissions, reason);
        }
        return Ok(verdict.permits);
    }
    basis.policies = sources(&verdict.forbids);
    let liftable = remedies(&verdict.forbids).filter(|_| would_permit(snapshot, candidates, slice));
    Err(forbidden(liftable, basis.clone()))
}

/// Returns what would lift the forbids, if each of them can be lifted.
fn remedies<'a>(forbids: &[&'a Entry]) -> Option<Vec<&'a Remedy>> {
    forbids.iter().map(|entry| entry.remedy.as_ref()).collect()
}

/// A forbid that can be lifted is one only if nothing else stands in the way, a missing permit included.
fn forbidden(liftable: Option<Vec<&Remedy>>, basis: Basis) -> Refusal {
    if let Some(remedies) = liftable {
        let step_up = remedies.iter().find_map(|remedy| match remedy {
            Remedy::StepUp(requirement) => Some(requirement.clone()),
            Remedy::Approval(_) => None,
        });
        if let Some(requirement) = step_up {
            return Box::new(Decision::StepUp(StepUp { requirement, basis }));
        }
        if let Some(Remedy::Approval(requirement)) = remedies.first() {
            return Box::new(Decision::Pending(Pending { requirement: requirement.clone(), basis }));
        }
    }
    let reason = "a policy of the tenant forbids it".to_owned();
    Box::new(Decision::Denied(Denied { code: ErrorCode::PolicyViolation, reason, basis }))
}

/// Tells whether the request would be permitted if no policy forbade it.
fn would_permit(snapshot: &Snapshot, candidates: &Candidates<'_>, slice: Option<&Slice>) -> bool {
    let evaluated = slice.is_some_and(|slice| {
        candidates.sets.iter().any(|set| {
            let permits = set.policies().filter(|policy| policy.effect() == Effect::Permit).cloned();
            let permits = PolicySet::from_policies(permits).expect("a part of a set has no duplicates");
            !run(snapshot, &[&permits], slice).permits.is_empty()
        })
    });
    evaluated || !candidates.settled.is_empty()
}

#[derive(Default)]
struct Verdict<'a> {
    permits: Vec<&'a Entry>,
    forbids: Vec<&'a Entry>,
    failed: Vec<&'a Entry>,
    errors: Vec<String>,
}

fn run<'a>(snapshot: &'a Snapshot, sets: &[&PolicySet], slice: &Slice) -> Verdict<'a> {
    let authorizer = Authorizer::new();
    let mut verdict = Verdict::default();
    for set in sets {
        let response = authorizer.is_authorized(&slice.request, set, &slice.entities);
        for error in response.diagnostics().errors() {
            verdict.errors.push(error.to_string());
            let AuthorizationError::PolicyEvaluationError(failure) = error;
            verdict.failed.push(entry(snapshot, failure.policy_id()));
        }
        for determining in response.diagnostics().reason().map(|id| entry(snapshot, id)) {
            match determining.policy.effect() {
                Effect::Permit => verdict.permits.push(determining),
                Effect::Forbid => verdict.forbids.push(determining),
            }
        }
    }
    verdict
}

fn entry<'a>(snapshot: &'a Snapshot, id: &PolicyId) -> &'a Entry {
    snapshot.index.entry(id).expect("every candidate is in the index")
}

/// Returns where the policies come from, in order, each once.
fn sources(entries: &[&Entry]) -> Vec<Arc<str>> {
    let mut sources: Vec<_> = entries.iter().map(|entry| entry.source.clone()).collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

fn deny<T>(basis: Basis, code: ErrorCode, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Box::new(Decision::Denied(Denied { code, reason: reason.into(), basis })))
}

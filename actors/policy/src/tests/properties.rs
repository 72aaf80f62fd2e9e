use std::collections::BTreeSet;

use cedar_policy::{Authorizer, Effect, PolicySet};
use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    entities::{Scope, Slice},
    needs::Needs,
    schema::vocabulary,
};

const ACTIONS: [&str; 8] =
    ["tool.invoke", "tool.*", "session.read", "session.*", "*.list", "role.create", "*.read", "*"];
const TOOLS: [&str; 3] = ["t0", "t1", "t2"];
const PERMITS: [&str; 6] = [
    r#"permit(principal, action == AESP::Action::"tool.invoke", resource == AESP::Tool::"t0");"#,
    r#"permit(principal in AESP::Role::"r1", action in [AESP::Action::"session.*", AESP::Action::"tool.invoke"], resource);"#,
    r#"permit(principal, action in AESP::Action::"*.list", resource) when { principal in AESP::Role::"r0" };"#,
    r#"permit(principal is AESP::Principal in AESP::Role::"r2", action, resource in AESP::Tag::"x");"#,
    r#"permit(principal == AESP::Principal::"prn_0810204081020408102040810204", action, resource);"#,
    r#"permit(principal, action == AESP::Action::"session.read", resource is AESP::Session) when { resource.owner == principal };"#,
];
const FORBIDS: [&str; 6] = [
    r#"forbid(principal, action, resource is AESP::Tool in AESP::Tag::"x");"#,
    r#"forbid(principal in AESP::Role::"r1", action in AESP::Action::"session.*", resource);"#,
    r#"@step_up("mfa") forbid(principal, action == AESP::Action::"tool.invoke", resource) when { resource.name == "t1" };"#,
    r#"@approval("owner") forbid(principal in AESP::Role::"r3", action, resource);"#,
    r#"forbid(principal, action, resource in AESP::Classification::"INTERNAL") when { principal in AESP::Role::"r2" };"#,
    r#"forbid(principal, action == AESP::Action::"tool.invoke", resource) when { context.depth * 9223372036854775807 > 5 };"#,
];

#[derive(Clone, Debug)]
struct Asked {
    principal: u8,
    action: &'static str,
    owner: u8,
    tool: &'static str,
    tagged: bool,
    depth: u32,
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let resources =
        select(vec!["*", "tool:t0", "tool:t1", "tag:x", "classification:INTERNAL", "session:own"]);
    let grant = (select(ACTIONS.to_vec()), resources);
    let one = (
        proptest::collection::vec(grant, 0..3),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
    );
    proptest::collection::vec(one, 4).prop_map(|drawn| {
        let made = drawn.into_iter().enumerate().map(|(number, (grants, parents))| {
            let parents =
                parents.iter().filter(|_| number > 0).map(|parent| format!("r{}", parent.index(number)));
            let parents: BTreeSet<String> = parents.collect();
            let mut made = role(&format!("r{number}"), &[], &[]);
            made.inherits = parents.into_iter().collect();
            made.grants = grants
                .into_iter()
                .map(|(action, resource)| Grant {
                    actions: vec![action.into()],
                    resources: vec![resource.into()],
                })
                .collect();
            // A grant that can't apply is refused when the role is created.
            made.grants.retain(|grant| {
                let alone = Role { grants: vec![grant.clone()], ..role("x", &[], &[]) };
                alone.check().is_ok()
            });
            made
        });
        made.collect()
    })
}

fn assignments() -> impl Strategy<Value = Vec<Assignment>> {
    let one = (1_u8..4, 0..4).prop_map(|(who, role)| assigned(who, &format!("r{role}")));
    proptest::collection::vec(one, 0..5)
}

fn policies(from: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(from.to_vec(), 0..from.len())
}

fn asked() -> impl Strategy<Value = Asked> {
    let actions = select(vec![
        "tool.invoke",
        "session.read",
        "session.renew",
        "tool.list",
        "role.create",
        "config.read",
    ]);
    (1_u8..4, actions, 1_u8..4, select(TOOLS.to_vec()), any::<bool>(), 0_u32..3).prop_map(
        |(principal, action, owner, tool, tagged, depth)| Asked {
            principal,
            action,
            owner,
            tool,
            tagged,
            depth,
        },
    )
}

fn stored(texts: &[&str]) -> Vec<StoredPolicy> {
    texts.iter().zip(1..).map(|(text, number)| policy(number, text)).collect()
}

fn decide(snapshot: &Snapshot, asked: &Asked) -> Decision {
    with(asked, |request| ask(snapshot, request))
}

fn with<T>(asked: &Asked, then: impl FnOnce(&Request<'_>) -> T) -> T {
    let tags = ["x".to_owned()];
    let tags: &[String] = if asked.tagged { &tags } else { &[] };
    let resource = match asked.action {
        "tool.invoke" => tool(asked.tool, tags, &[]),
        action if action.starts_with("session.") || action == "tool.list" => session_of(asked.owner),
        _ => Resource::Tenant(tenant()),
    };
    let mut request = request(asked.principal, asked.action, resource);
    request.context.depth = asked.depth;
    then(&request)
}

fn permitted(decision: &Decision) -> bool {
    matches!(decision, Decision::Permit(_))
}

/// Decides by giving Cedar every policy of the tenant: permitted or not, and whether a policy failed.
fn by_all_policies(snapshot: &Snapshot, asked: &Asked) -> (bool, bool) {
    with(asked, |request| {
        let all = PolicySet::from_policies(snapshot.index.entries().map(|entry| entry.policy.clone()))
            .expect("unique");
        let action = vocabulary().action(request.action).expect("exists").1;
        let roles = snapshot.closure_of(request.principal, NOW);
        let slice = Slice::new(snapshot, request, action, &roles, Scope::of(request, &roles), Needs::ALL)
            .expect("can be said");
        let response = Authorizer::new().is_authorized(&slice.request, &all, &slice.entities);
        let failed = response.diagnostics().errors().next().is_some();
        (!failed && response.decision() == cedar_policy::Decision::Allow, failed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_index_changes_nothing(roles in roles(), held in assignments(), permits in policies(&PERMITS), forbids in policies(&FORBIDS), asked in proptest::collection::vec(asked(), 1..6)) {
        let snapshot = snapshot(roles, held, stored(&[permits, forbids].concat()));
        for asked in &asked {
            let decision = decide(&snapshot, asked);
            let (all, failed) = by_all_policies(&snapshot, asked);
            prop_assert_eq!(permitted(&decision), all, "{:?}: {:?}", asked, decision);
            prop_assert_eq!(!decision.basis().errors.is_empty(), failed);
        }
    }

    #[test]
    fn nothing_is_permitted_without_a_grant(roles in roles(), forbids in policies(&FORBIDS), asked in asked()) {
        // Roles exist, but nobody has one, and no policy permits.
        let snapshot = snapshot(roles, vec![], stored(&forbids));
        prop_assert!(!permitted(&decide(&snapshot, &asked)));
        prop_assert!(!matches!(decide(&snapshot, &asked), Decision::StepUp(_) | Decision::Pending(_)));
    }

    #[test]
    fn a_forbid_never_permits_more(roles in roles(), held in assignments(), permits in policies(&PERMITS), forbids in policies(&FORBIDS), more in select(FORBIDS.to_vec()), asked in asked()) {
        let before = [permits, forbids].concat();
        let after = [before.clone(), vec![more]].concat();
        let (before, after) = (snapshot(roles.clone(), held.clone(), stored(&before)), snapshot(roles, held, stored(&after)));
        prop_assert!(permitted(&decide(&before, &asked)) || !permitted(&decide(&after, &asked)));
    }

    #[test]
    fn revoking_a_role_never_permits_more_and_removes_its_grants(roles in roles(), held in assignments(), asked in asked()) {
        let full = snapshot(roles.clone(), held.clone(), vec![]);
        for left_out in 0..held.len() {
            let mut rest = held.clone();
            let gone = rest.remove(left_out);
            rest.retain(|other| *other != gone);
            let less = snapshot(roles.clone(), rest.clone(), vec![]);
            prop_assert!(permitted(&decide(&full, &asked)) || !permitted(&decide(&less, &asked)));
            if !rest.iter().any(|other| other.principal == principal(asked.principal)) {
                prop_assert!(!permitted(&decide(&less, &asked)));
            }
        }
    }

    #[test]
    fn inheritance_is_transitive(roles in roles(), asked in asked(), pick in 0_usize..4) {
        // Whoever has a role has all that the roles above it grant, however far.
        let mut above = vec![pick];
        while let Some(next) = above.pop() {
            let name = format!("r{next}");
            let of_ancestor = snapshot(roles.clone(), vec![assigned(asked.principal, &name)], vec![]);
            let of_heir = snapshot(roles.clone(), vec![assigned(asked.principal, &format!("r{pick}"))], vec![]);
            prop_assert!(!permitted(&decide(&of_ancestor, &asked)) || permitted(&decide(&of_heir, &asked)));
            prop_assert!(of_heir.roles_of(principal(asked.principal), NOW).contains(&name));
            above.extend(roles[next].inherits.iter().filter_map(|parent| parent[1..].parse::<usize>().ok()));
        }
    }
}

#[test]
fn the_samples_are_what_they_say() {
    for (texts, effect) in [(PERMITS, Effect::Permit), (FORBIDS, Effect::Forbid)] {
        for text in texts {
            assert_eq!(text.parse::<cedar_policy::Policy>().expect(text).effect(), effect);
        }
    }
}

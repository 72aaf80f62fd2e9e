use std::{net::IpAddr, time::Duration};

use aesp_proto::{Entropy, ErrorCode, Revision, TenantId};
use cedar_policy::Entities;

use super::*;
use crate::{
    PolicyValue, authorize_both,
    entities::{Scope, Slice},
    needs::{Needs, Reads},
    schema::vocabulary,
};

fn code(decision: Decision) -> Option<ErrorCode> {
    match decision {
        Decision::Denied(denied) => Some(denied.code),
        Decision::Permit(_) => None,
        other => panic!("{other:?}"),
    }
}

fn git_user() -> Vec<Role> {
    vec![role("git", &["agent"], &[(&["tool.invoke"], &["tool:git_log"])])]
}

#[test]
fn a_grant_permits_what_it_names_and_nothing_else() {
    let snapshot = snapshot(git_user(), vec![assigned(1, "git")], vec![]);
    let Decision::Permit(permit) = invoke(&snapshot, 1, "git_log", &PolicyArguments::new()) else {
        panic!("denied")
    };
    assert_eq!(permit.policies(), ["role:git".into()]);
    assert_eq!(
        (permit.revision(), permit.principal(), permit.action()),
        (Revision(7), principal(1), "tool.invoke")
    );
    assert_eq!(permit.basis().roles.iter().map(|r| &**r).collect::<Vec<_>>(), ["agent", "git"]);
    let none = PolicyArguments::new();
    assert_eq!(code(invoke(&snapshot, 1, "git_push", &none)), Some(ErrorCode::InsufficientPermissions));
    assert_eq!(code(invoke(&snapshot, 2, "git_log", &none)), Some(ErrorCode::InsufficientPermissions));
}

#[test]
fn agents_have_their_own_sessions_only() {
    let snapshot =
        snapshot(git_user(), vec![assigned(1, "git"), assigned(2, "git"), assigned(3, "operator")], vec![]);
    for action in [
        "session.read",
        "session.renew",
        "session.destroy",
        "tool.list",
        "tool.cancel",
        "tool.outcome",
        "tool.log_result",
    ] {
        assert_eq!(code(ask(&snapshot, &request(1, action, session_of(1)))), None, "{action}");
        assert!(code(ask(&snapshot, &request(2, action, session_of(1)))).is_some(), "{action}");
    }
    assert_eq!(code(ask(&snapshot, &request(1, "session.create", Resource::Tenant(tenant())))), None);
    assert!(code(ask(&snapshot, &request(1, "tool.resolve", session_of(1)))).is_some());
    assert_eq!(code(ask(&snapshot, &request(3, "session.destroy", session_of(1)))), None);
}

#[test]
fn tags_classifications_and_groups_grant() {
    let tags = ["vcs".to_owned()];
    for (actions, resources) in [
        (&["tool.*"][..], &["tag:vcs"][..]),
        (&["tool.invoke"], &["classification:INTERNAL"]),
        (&["*"], &["*"]),
        (&["tool.invoke"], &["tool:other", "tag:x\" , resource);", "tag:vcs"]),
    ] {
        let snapshot =
            snapshot(vec![role("r", &[], &[(actions, resources)])], vec![assigned(1, "r")], vec![]);
        assert_eq!(
            code(ask(&snapshot, &request(1, "tool.invoke", tool("git_log", &tags, &[])))),
            None,
            "{resources:?}"
        );
    }
    let elsewhere = role("r", &[], &[(&["tool.invoke"], &["tag:db", "classification:PUBLIC", "tool:vcs"])]);
    let snapshot = snapshot(vec![elsewhere], vec![assigned(1, "r")], vec![]);
    assert!(code(ask(&snapshot, &request(1, "tool.invoke", tool("git_log", &tags, &[])))).is_some());
}

#[test]
fn administrators_administer_and_call_no_tool() {
    let snapshot = snapshot(vec![], vec![assigned(1, "tenant-admin"), assigned(2, "auditor")], vec![]);
    let own = || Resource::Tenant(tenant());
    for action in ["role.create", "contract.activate", "config.write", "audit.query"] {
        assert_eq!(code(ask(&snapshot, &request(1, action, own()))), None, "{action}");
    }
    assert!(code(invoke(&snapshot, 1, "git_log", &PolicyArguments::new())).is_some());
    for action in ["tenant.update", "tenant.resume", "tenant.delete", "authentication.rotate_key"] {
        assert_eq!(
            code(ask(&snapshot, &request(1, action, own()))),
            Some(ErrorCode::TenantAccessDenied),
            "{action}"
        );
    }
    for action in ["audit.export", "config.read", "role.list"] {
        assert_eq!(code(ask(&snapshot, &request(2, action, own()))), None, "{action}");
    }
    assert!(code(ask(&snapshot, &request(2, "role.create", own()))).is_some());
}

#[test]
fn tenants_do_not_meet() {
    let ours = snapshot(vec![role("all", &[], &[(&["*"], &["*"])])], vec![assigned(1, "all")], vec![]);
    let theirs = TenantId::from_bytes([2; 16]);
    for resource in [
        Resource::Tenant(theirs),
        Resource::Session { id: SessionId::from_bytes([3; 16]), owner: principal(1), tenant: theirs },
    ] {
        let action = if matches!(resource, Resource::Tenant(_)) { "role.list" } else { "session.read" };
        assert_eq!(code(ask(&ours, &request(1, action, resource))), Some(ErrorCode::TenantAccessDenied));
    }
    let mut foreign = request(1, "role.list", Resource::Tenant(tenant()));
    foreign.tenant = theirs;
    assert_eq!(
        code(ask(&ours, &foreign)),
        Some(ErrorCode::TenantAccessDenied),
        "a snapshot of another tenant"
    );
}

#[test]
fn operators_of_the_platform_administer_tenants_and_call_nothing_there() {
    let roles = vec![role("all", &[], &[(&["*"], &["*"])])];
    let assignments = vec![assigned(1, "platform-admin"), assigned(2, "all")];
    let parts = Parts { roles, assignments, policies: vec![] };
    let platform = Snapshot::from_parts(TenantId::PLATFORM, Revision(1), parts).expect("well-formed");
    let ask_as = |number, action, resource| {
        let mut request = request(number, action, resource);
        request.tenant = TenantId::PLATFORM;
        code(ask(&platform, &request))
    };
    assert_eq!(ask_as(1, "tenant.suspend", Resource::Tenant(tenant())), None);
    assert_eq!(ask_as(2, "tool.invoke", tool("git_log", &[], &[])), Some(ErrorCode::TenantAccessDenied));
    assert_eq!(ask_as(1, "session.create", Resource::Tenant(tenant())), Some(ErrorCode::TenantAccessDenied));
}

#[test]
fn policies_read_arguments() {
    let text = r#"forbid(principal, action == AESP::Action::"tool.invoke", resource)
        when { context.arguments.longs.hasTag("/max") && context.arguments.longs.getTag("/max") > 10 };
        forbid(principal, action == AESP::Action::"tool.invoke", resource == AESP::Tool::"git_log")
        when { context.arguments.sets.hasTag("/paths") && context.arguments.sets.getTag("/paths").contains("secret") };
        forbid(principal, action == AESP::Action::"tool.invoke", resource)
        when { context.arguments.decimals.hasTag("/p") && context.arguments.decimals.getTag("/p").greaterThan(decimal("1.5")) };"#;
    let snapshot = snapshot(git_user(), vec![assigned(1, "git")], vec![policy(1, text)]);
    let with = |path: &str, value| {
        invoke(&snapshot, 1, "git_log", &PolicyArguments::from([(path.to_owned(), value)]))
    };
    assert_eq!(code(with("/max", PolicyValue::Long(10))), None);
    assert_eq!(code(with("/max", PolicyValue::Long(11))), Some(ErrorCode::PolicyViolation));
    assert_eq!(code(with("/paths", PolicyValue::Set(["a".to_owned()].into()))), None);
    assert_eq!(
        code(with("/paths", PolicyValue::Set(["secret".to_owned()].into()))),
        Some(ErrorCode::PolicyViolation)
    );
    assert_eq!(code(with("/p", PolicyValue::Decimal(15_000))), None);
    assert_eq!(code(with("/p", PolicyValue::Decimal(15_001))), Some(ErrorCode::PolicyViolation));
    assert_eq!(code(with("/p", PolicyValue::Decimal(i64::MIN))), None);
    let Decision::Denied(denied) = with("/max", PolicyValue::Long(11)) else { panic!("permitted") };
    assert_eq!(denied.policies(), [policy(1, text).id.to_string().into()]);
}

#[test]
fn a_policy_that_fails_to_evaluate_denies() {
    let text = r#"forbid(principal, action == AESP::Action::"tool.invoke", resource)
        when { context.depth * 9223372036854775807 > 9223372036854775806 };"#;
    let snapshot = snapshot(git_user(), vec![assigned(1, "git")], vec![policy(1, text)]);
    let mut deep = request(1, "tool.invoke", tool("git_log", &[], &[]));
    assert_eq!(code(ask(&snapshot, &deep)), None);
    deep.context.depth = 2;
    let Decision::Denied(denied) = ask(&snapshot, &deep) else { panic!("permitted") };
    assert_eq!(denied.code, ErrorCode::PolicyEvaluationFailed);
    assert!(!denied.basis.errors.is_empty() && denied.policies().len() == 1);
}

#[test]
fn circumstances_count() {
    let text = r#"forbid(principal, action, resource) when { context.now < datetime("2026-09-21") };
        forbid(principal, action, resource) unless { context has sourceIp && context.sourceIp.isInRange(ip("10.0.0.0/8")) };
        forbid(principal, action, resource) when { context has onBehalfOf && context.onBehalfOf in AESP::Role::"guest" };
        forbid(principal, action, resource) when { principal.kind == "USER" };"#;
    let roles = [git_user(), vec![role("guest", &[], &[])]].concat();
    let snapshot = snapshot(roles, vec![assigned(1, "git"), assigned(2, "guest")], vec![policy(1, text)]);
    let mut asked = request(1, "tool.invoke", tool("git_log", &[], &[]));
    assert!(code(ask(&snapshot, &asked)).is_some(), "no address");
    asked.context.source_ip = Some(IpAddr::from([10, 1, 2, 3]));
    assert_eq!(code(ask(&snapshot, &asked)), None);
    asked.context.now = Timestamp(1_700_000_000_000);
    assert!(code(ask(&snapshot, &asked)).is_some(), "too early");
    asked.context.now = NOW;
    asked.on_behalf_of = Some(principal(2));
    assert!(code(ask(&snapshot, &asked)).is_some(), "for a guest");
    asked.on_behalf_of = Some(principal(3));
    assert_eq!(code(ask(&snapshot, &asked)), None);
    asked.principal_kind = "USER";
    assert!(code(ask(&snapshot, &asked)).is_some(), "a person");
}

#[test]
fn annotations_oblige_step_up_and_wait() {
    let obliging = policy(
        1,
        r#"@obligation("mask") permit(principal, action == AESP::Action::"tool.invoke", resource == AESP::Tool::"a");"#,
    );
    let step_up = policy(
        2,
        r#"@step_up("mfa") forbid(principal, action == AESP::Action::"tool.invoke", resource == AESP::Tool::"a") when { context.depth == 1 };"#,
    );
    let approval = policy(
        3,
        r#"@approval("owner") forbid(principal, action == AESP::Action::"tool.invoke", resource) when { context.depth == 2 };"#,
    );
    let hard = policy(
        4,
        r#"forbid(principal, action == AESP::Action::"tool.invoke", resource == AESP::Tool::"a") when { context.depth == 3 };"#,
    );
    let both = policy(5, r#"@step_up("x") forbid(principal, action, resource) when { context.depth == 3 };"#);
    let snapshot = snapshot(vec![], vec![], vec![obliging, step_up, approval, hard, both]);
    let at = |depth, name| {
        let mut asked = request(1, "tool.invoke", tool(name, &[], &[]));
        asked.context.depth = depth;
        ask(&snapshot, &asked)
    };
    let Decision::Permit(permit) = at(0, "a") else { panic!("denied") };
    assert_eq!(permit.obligations().iter().map(|o| &*o.text).collect::<Vec<_>>(), ["mask"]);
    let Decision::StepUp(step_up) = at(1, "a") else { panic!("no step-up") };
    assert_eq!(&*step_up.requirement, "mfa");
    assert_eq!(step_up.into_denied().code, ErrorCode::MfaRequired);
    let Decision::Pending(pending) = at(2, "a") else { panic!("not pending") };
    assert_eq!(&*pending.requirement, "owner");
    assert_eq!(code(at(2, "b")), Some(ErrorCode::PolicyViolation), "an approval can't replace a grant");
    assert_eq!(code(at(3, "a")), Some(ErrorCode::PolicyViolation), "one of the forbids can't be lifted");
}

#[test]
fn required_roles_are_required() {
    let snapshot = snapshot(git_user(), vec![assigned(1, "git")], vec![]);
    let required = |roles: &[&str]| {
        let roles: Vec<_> = roles.iter().map(|role| (*role).to_owned()).collect();
        code(ask(&snapshot, &request(1, "tool.invoke", tool("git_log", &[], &roles))))
    };
    assert_eq!(required(&["agent", "git"]), None);
    assert_eq!(required(&["git", "dba"]), Some(ErrorCode::RoleRequired));
}

#[test]
fn on_behalf_of_needs_both() {
    let snapshot = snapshot(git_user(), vec![assigned(1, "git"), assigned(2, "git")], vec![]);
    let both = |actor, origin| {
        let mut actor = request(actor, "tool.invoke", tool("git_log", &[], &[]));
        actor.on_behalf_of = Some(principal(origin));
        let origin = request(origin, "tool.invoke", tool("git_log", &[], &[]));
        authorize_both(&Entropy::from_seed(1), (&snapshot, &actor), (&snapshot, &origin))
    };
    let Decision::Permit(permit) = both(1, 2) else { panic!("denied") };
    assert_eq!((permit.principal(), permit.on_behalf_of()), (principal(1), Some(principal(2))));
    assert!(code(both(1, 3)).is_some());
    assert!(code(both(3, 2)).is_some());
}

#[test]
fn assignments_end() {
    let end = NOW.plus(Duration::from_secs(1));
    let ending = Assignment { expires_at: Some(end), ..assigned(1, "git") };
    let snapshot = snapshot(git_user(), vec![ending], vec![]);
    let mut asked = request(1, "tool.invoke", tool("git_log", &[], &[]));
    assert_eq!(code(ask(&snapshot, &asked)), None);
    asked.context.now = end;
    assert_eq!(code(ask(&snapshot, &asked)), Some(ErrorCode::InsufficientPermissions));
    assert!(snapshot.effective(principal(1), end).is_empty());
}

#[test]
fn what_a_decision_sees_is_what_the_published_schema_says() {
    let snapshot = snapshot(git_user(), vec![assigned(1, "git")], vec![]);
    let tags = ["a".to_owned(), "b".to_owned()];
    let arguments = PolicyArguments::from([
        ("/s".into(), PolicyValue::String("x".into())),
        ("/l".into(), PolicyValue::Long(-1)),
        ("/b".into(), PolicyValue::Bool(true)),
        ("/d".into(), PolicyValue::Decimal(-5)),
        ("/t".into(), PolicyValue::Set(["x".to_owned()].into())),
        ("/e".into(), PolicyValue::Set([].into())),
    ]);
    let schema = vocabulary().validator.schema();
    let resources = [
        ("tool.invoke", tool("t", &tags, &[])),
        ("session.read", session_of(2)),
        ("role.list", Resource::Tenant(tenant())),
    ];
    for (action, resource) in resources {
        let mut asked = request(1, action, resource);
        asked.on_behalf_of = Some(principal(3));
        asked.context.source_ip = Some("2001:db8::1".parse().expect("an address"));
        asked.context.session = Some(SessionId::from_bytes([4; 16]));
        asked.context.arguments = Some(&arguments);
        let action = vocabulary().action(action).expect("exists").1;
        let roles = snapshot.closure_of(asked.principal, NOW);
        let slice = Slice::new(&snapshot, &asked, action, &roles, Scope::of(&asked, &roles), Needs::ALL)
            .expect("can be said");
        Entities::from_entities(slice.entities.iter().cloned(), Some(schema)).expect("entities conform");
        let part = |uid: Option<&cedar_policy::EntityUid>| uid.expect("concrete").clone();
        let context = slice.request.context().expect("concrete").clone();
        let (who, what, which) =
            (slice.request.principal(), slice.request.action(), slice.request.resource());
        cedar_policy::Request::new(part(who), part(what), part(which), context, Some(schema))
            .expect("request conforms");
    }
}

#[test]
fn what_grants_are_said_to_read_is_what_they_read() {
    let snapshot = snapshot(git_user(), vec![], vec![]);
    assert!(snapshot.index.entries().count() > 5);
    for entry in snapshot.index.entries() {
        let said = Reads { needs: entry.needs, unconditional: entry.unconditional };
        assert_eq!(said, Reads::of(&entry.policy), "{}", entry.policy);
    }
}

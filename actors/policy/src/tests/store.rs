use std::{sync::Arc, time::Duration};

use aesp_proto::ErrorCode;
use aesp_storage::Store;

use super::*;
use crate::{
    Error, PolicyDraft, assign_role, create_policy, create_role, delete_policy, delete_role,
    list_assignments, list_policies, list_roles, revoke_role, set_roles,
};

/// Runs a transaction whose body is an expression over `tx` and clones of what is named in brackets.
macro_rules! in_tx {
    ($store:expr, |$tx:ident| $body:expr) => {
        in_tx!($store, [], |$tx| $body)
    };
    ($store:expr, [$($name:ident),*], |$tx:ident| $body:expr) => {{
        $(let $name = $name.clone();)*
        $store
            .run::<_, Error, _>(move |$tx| {
                $(let $name = $name.clone();)*
                Box::pin(async move { $body })
            })
            .await
    }};
}

async fn store() -> Store {
    let store = Store::for_tests();
    in_tx!(store, |tx| tx.create_tenant_keys(tenant()).await.map_err(Error::from)).expect("keys are created");
    store
}

fn draft(number: u8, text: &'static str) -> PolicyDraft {
    PolicyDraft {
        id: TokenId::from_bytes([number; 16]),
        name: "p".into(),
        description: String::new(),
        text: text.into(),
    }
}

async fn load(store: &Store) -> Arc<Snapshot> {
    Arc::new(in_tx!(store, |tx| Snapshot::load(tx, tenant()).await).expect("loads"))
}

async fn reload(store: &Store, last: &Arc<Snapshot>) -> Arc<Snapshot> {
    Arc::new(in_tx!(store, [last], |tx| last.reload(tx).await).expect("reloads"))
}

#[tokio::test]
async fn rights_survive_the_store_and_every_change_bumps_the_revision() {
    let store = store().await;
    let git = role("git", &["agent"], &[(&["tool.invoke"], &["tool:git_log"])]);
    let first = load(&store).await;
    in_tx!(store, [git], |tx| create_role(tx, tenant(), &git).await).expect("created");
    in_tx!(store, |tx| assign_role(tx, tenant(), principal(1), "git", None).await).expect("assigned");
    let granted = load(&store).await;
    assert_eq!(granted.revision().0, first.revision().0 + 2);
    let none = PolicyArguments::new();
    assert!(matches!(invoke(&granted, 1, "git_log", &none), Decision::Permit(_)));
    assert_eq!(granted.roles_of(principal(1), NOW), ["git", "agent"]);

    let text = r#"forbid(principal, action, resource) when { principal in AESP::Role::"git" };"#;
    in_tx!(store, |tx| create_policy(tx, tenant(), &draft(1, text), principal(9), NOW).await)
        .expect("created");
    let forbidden = reload(&store, &granted).await;
    assert!(matches!(invoke(&forbidden, 1, "git_log", &none), Decision::Denied(_)));
    in_tx!(store, |tx| delete_policy(tx, tenant(), TokenId::from_bytes([1; 16])).await).expect("deleted");
    let again = reload(&store, &forbidden).await;
    assert!(matches!(invoke(&again, 1, "git_log", &none), Decision::Permit(_)));

    assert!(in_tx!(store, |tx| revoke_role(tx, tenant(), principal(1), "git").await).expect("revoked"));
    assert!(
        !in_tx!(store, |tx| revoke_role(tx, tenant(), principal(1), "git").await)
            .expect("not there any more")
    );
    let revoked = reload(&store, &again).await;
    assert_eq!(revoked.revision().0, again.revision().0 + 1);
    assert!(matches!(invoke(&revoked, 1, "git_log", &none), Decision::Denied(_)));
}

#[tokio::test]
async fn malformed_roles_are_refused() {
    let store = store().await;
    let a = role("a", &[], &[]);
    in_tx!(store, [a], |tx| create_role(tx, tenant(), &a).await).expect("created");
    let cases = [
        (role("a", &[], &[]), ErrorCode::StateConflict),
        (role("agent", &[], &[]), ErrorCode::StateConflict),
        (role("b", &["b"], &[]), ErrorCode::StateConflict),
        (role("b", &["nobody"], &[]), ErrorCode::NotFound),
        (role("b", &["platform-admin"], &[]), ErrorCode::NotFound),
        (role("", &[], &[]), ErrorCode::InvalidRequest),
        (role("b\"]", &[], &[]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&["tool.invoek"], &["*"])]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&["session.read"], &["tool:x"])]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&["tool.invoke"], &["session:own"])]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&["tool.invoke"], &["tool:"])]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&["tool.invoke"], &["everything"])]), ErrorCode::InvalidRequest),
        (role("b", &[], &[(&[], &["*"])]), ErrorCode::InvalidRequest),
    ];
    for (wrong, code) in cases {
        let error =
            in_tx!(store, [wrong], |tx| create_role(tx, tenant(), &wrong).await).expect_err("refused");
        assert_eq!(error.code(), code, "{wrong:?}: {error}");
    }
    let roles = in_tx!(store, |tx| list_roles(tx, tenant()).await).expect("listed");
    assert_eq!(
        roles.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(),
        ["tenant-admin", "auditor", "operator", "agent", "a"]
    );
}

#[tokio::test]
async fn roles_in_use_stay() {
    let store = store().await;
    for made in [role("base", &[], &[]), role("heir", &["base"], &[])] {
        in_tx!(store, [made], |tx| create_role(tx, tenant(), &made).await).expect("created");
    }
    let delete =
        async |name: &'static str, now| in_tx!(store, |tx| delete_role(tx, tenant(), name, now).await);
    assert!(matches!(delete("base", NOW).await, Err(Error::InUse { .. })));
    let end = Some(NOW.plus(Duration::from_secs(5)));
    in_tx!(store, |tx| assign_role(tx, tenant(), principal(1), "heir", end).await).expect("assigned");
    assert!(matches!(delete("heir", NOW).await, Err(Error::InUse { .. })));
    delete("heir", NOW.plus(Duration::from_secs(5))).await.expect("the assignment has ended");
    delete("base", NOW).await.expect("nobody inherits any more");
    assert!(matches!(delete("base", NOW).await, Err(Error::NoSuchRole(_))));
    assert!(matches!(delete("agent", NOW).await, Err(Error::BuiltIn(_))));
    let held = in_tx!(store, |tx| list_assignments(tx, tenant(), principal(1)).await).expect("listed");
    assert_eq!(held, []);
}

#[tokio::test]
async fn setting_roles_replaces_and_keeps_ends() {
    let store = store().await;
    let end = Some(NOW.plus(Duration::from_secs(5)));
    in_tx!(store, |tx| assign_role(tx, tenant(), principal(1), "agent", end).await).expect("assigned");
    in_tx!(store, |tx| assign_role(tx, tenant(), principal(1), "auditor", None).await).expect("assigned");
    let wanted = ["agent".to_owned(), "operator".to_owned()];
    in_tx!(store, [wanted], |tx| set_roles(tx, tenant(), principal(1), &wanted).await).expect("set");
    let held = in_tx!(store, |tx| list_assignments(tx, tenant(), principal(1)).await).expect("listed");
    assert_eq!(
        held.iter().map(|a| (a.role.as_str(), a.expires_at)).collect::<Vec<_>>(),
        [("agent", end), ("operator", None)]
    );
    let unknown = in_tx!(store, |tx| assign_role(tx, tenant(), principal(1), "nobody", None).await);
    assert!(matches!(unknown, Err(Error::NoSuchRole(_))));
}

#[tokio::test]
async fn policies_are_validated_and_paged() {
    let store = store().await;
    let wrong =
        in_tx!(store, |tx| create_policy(tx, tenant(), &draft(1, "permit(nobody);"), principal(9), NOW)
            .await);
    assert!(matches!(wrong, Err(Error::InvalidPolicy(_))));
    for number in 1..=3 {
        let text = "forbid(principal, action, resource);";
        in_tx!(store, |tx| create_policy(tx, tenant(), &draft(number, text), principal(9), NOW).await)
            .expect("created");
    }
    let first = in_tx!(store, |tx| list_policies(tx, tenant(), None, 2).await).expect("listed");
    let after = first.last().map(|policy| policy.id);
    let rest = in_tx!(store, |tx| list_policies(tx, tenant(), after, 2).await).expect("listed");
    assert_eq!((first.len(), rest.len(), rest[0].id), (2, 1, TokenId::from_bytes([3; 16])));
}

#[test]
fn a_stored_policy_that_can_not_be_read_closes_the_tenant_but_for_its_repair() {
    let mut broken = policy(1, "forbid(principal, action, resource);");
    broken.text = "forbid(principal, action, resource) when { principal.shoe == 1 };".into();
    broken.schema = 0;
    let snapshot = snapshot(vec![], vec![assigned(1, "tenant-admin")], vec![broken]);
    let Decision::Denied(denied) = ask(&snapshot, &request(1, "role.list", Resource::Tenant(tenant())))
    else {
        panic!("permitted")
    };
    assert_eq!(denied.code, ErrorCode::PolicyEvaluationFailed);
    let repair = ask(&snapshot, &request(1, "policy.delete", Resource::Tenant(tenant())));
    assert!(matches!(repair, Decision::Permit(_)));
}

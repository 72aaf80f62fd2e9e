//! Measures what a decision costs with 50 and with 10,000 policies in the tenant:
//! `cargo run --release -p aesp-policy --example policy_cost`.
#![expect(clippy::print_stdout, reason = "it is a command-line program")]
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first surprise")]

use std::time::Duration;

use aesp_policy::{
    Assignment, Context, Decision, Grant, Parts, PolicyArguments, PolicyValue, Request, Resource, Role,
    Snapshot, StoredPolicy, authorize,
};
use aesp_proto::{Entropy, PrincipalId, Revision, TenantId, Timestamp, TokenId};
use tokio::time::Instant;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const ROUNDS: usize = 20_000;

fn main() {
    for (policies, bound) in [(50, Duration::from_micros(20)), (10_000, Duration::from_millis(1))] {
        let start = Instant::now();
        let snapshot = snapshot(policies);
        let loaded = start.elapsed();
        let mut times = measure(&snapshot, policies);
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 1000];
        let evaluated = decide(&snapshot, policies, 0, &Entropy::from_seed(1)).basis().evaluated;
        println!("{policies:>6} policies validated and compiled in {loaded:?}");
        println!(
            "{policies:>6} policies, {evaluated:>3} evaluated: least {:?}, p50 {:?}, p99 {:?}, p99.9 {:?} (bound for p99: {bound:?})",
            at(0),
            at(500),
            at(990),
            at(999)
        );
    }
}

fn measure(snapshot: &Snapshot, policies: usize) -> Vec<Duration> {
    let entropy = Entropy::from_seed(1);
    for round in 0..2_000 {
        assert!(matches!(decide(snapshot, policies, round, &entropy), Decision::Permit(_)));
    }
    let one = |round| {
        let start = Instant::now();
        let decision = decide(snapshot, policies, round, &entropy);
        let taken = start.elapsed();
        assert!(matches!(decision, Decision::Permit(_)));
        taken
    };
    (0..ROUNDS).map(one).collect()
}

/// Half of the policies are grants of roles (ten tools each), three tenths forbids of one tool each, a tenth forbids of one
/// role each, the rest forbids of other actions; five forbids concern every call.
fn snapshot(policies: usize) -> Snapshot {
    let roles: Vec<Role> = (0..policies / 20).map(role).collect();
    let forbids = (0..policies / 2).map(|number| {
        let invoke = r#"action == AESP::Action::"tool.invoke""#;
        match number {
            0..5 => format!(r#"forbid(principal, {invoke}, resource) when {{ context.depth > {} }};"#, 5 + number),
            _ if number % 5 < 3 => format!(
                r#"forbid(principal, {invoke}, resource == AESP::Tool::"t{number}") when {{
                    context.arguments.longs.hasTag("/max") && context.arguments.longs.getTag("/max") > 1000 }};"#
            ),
            _ if number % 5 == 3 => format!(
                r#"forbid(principal in AESP::Role::"r{}", {invoke}, resource) when {{ resource.risk == "HIGH" }};"#,
                number % (policies / 20)
            ),
            _ => r#"forbid(principal, action == AESP::Action::"session.create", resource) when { context.depth > 0 };"#.into(),
        }
    });
    let policies = forbids.enumerate().map(|(number, text)| stored(number, text)).collect();
    let assignments = vec![assigned("r0"), assigned("agent")];
    let parts = Parts { roles, assignments, policies };
    Snapshot::from_parts(tenant(), Revision(1), parts).unwrap()
}

fn role(number: usize) -> Role {
    let tools = (0..10).map(|tool| format!("tool:t{}", number * 10 + tool)).collect();
    Role {
        name: format!("r{number}"),
        description: String::new(),
        inherits: vec![],
        grants: vec![Grant { actions: vec!["tool.invoke".into()], resources: tools }],
        built_in: false,
    }
}

fn stored(number: usize, text: String) -> StoredPolicy {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    StoredPolicy::new(TokenId::from_bytes(id), "measured", text, principal(), NOW).unwrap()
}

fn decide(snapshot: &Snapshot, policies: usize, round: usize, entropy: &Entropy) -> Decision {
    let name = format!("t{}", round % 10.min(policies / 2));
    let arguments = PolicyArguments::from([
        ("/max".to_owned(), PolicyValue::Long(10)),
        ("/path".to_owned(), PolicyValue::String("src".into())),
    ]);
    let resource = Resource::Tool {
        tenant: tenant(),
        name: &name,
        version: "1.0.0",
        effects: "READ_ONLY",
        risk: "LOW",
        classification: "INTERNAL",
        tags: &["vcs".to_owned()],
        required_roles: &[],
        development: false,
    };
    let request = Request {
        principal: principal(),
        principal_kind: "SERVICE_ACCOUNT",
        tenant: tenant(),
        on_behalf_of: None,
        action: "tool.invoke",
        resource,
        context: Context {
            arguments: Some(&arguments),
            source_ip: Some([10, 0, 0, 1].into()),
            ..Context::at(NOW)
        },
    };
    authorize(snapshot, entropy, &request)
}

fn assigned(role: &str) -> Assignment {
    Assignment { principal: principal(), role: role.into(), expires_at: None }
}

fn tenant() -> TenantId {
    TenantId::from_bytes([1; 16])
}

fn principal() -> PrincipalId {
    PrincipalId::from_bytes([2; 16])
}

//! The catalogue, as users of the crate notice it.

use std::collections::BTreeSet;

use aesp_policy::PolicyValue;
use aesp_proto::{ErrorCode, PrincipalId, TenantId, Timestamp, v1};
use aesp_storage::Store;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    Compiled, Compiler, Contract, Error, Import, Origin, Snapshot, Status, activate, create_draft,
    get_contract, import_adm, import_mcp, list_contracts, retire,
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);

fn draft() -> v1::ContractDraft {
    let parameters = json!({
        "type": "object",
        "required": ["repo"],
        "additionalProperties": false,
        "properties": {
            "repo": {"type": "string", "maxLength": 8, "pattern": "^[a-z]+$"},
            "max": {"type": "integer", "minimum": 1},
            "price": {"type": "number"},
            "dry": {"type": "boolean"},
            "kind": {"enum": ["a", "b"]},
            "filter": {"type": "object", "properties": {"paths": {"type": "array", "items": {"type": "string"}}}},
        },
    });
    v1::ContractDraft {
        name: "git_log".into(),
        version: "1.2.0".into(),
        description: "Lists commits.".into(),
        parameters_json: parameters.to_string().into(),
        return_type_json: json!({"type": "array", "items": {"type": "string"}}).to_string().into(),
        effects: v1::Effects::ReadOnly.into(),
        risk: v1::Risk::Low.into(),
        timeout_ms: 5000,
        security_classification: "INTERNAL".into(),
        required_roles: vec!["developer".into()],
        tags: vec!["vcs".into()],
        policy_visible: [
            ("/repo", "String"),
            ("/max", "Long"),
            ("/price", "Decimal"),
            ("/dry", "Boolean"),
            ("/filter/paths", "Set<String>"),
        ]
        .map(|(path, kind)| v1::PolicyVisible { path: path.into(), cedar_type: kind.into() })
        .into(),
        ..v1::ContractDraft::default()
    }
}

fn contract() -> Contract {
    Contract::from_draft(&draft(), BTreeSet::new()).expect("valid")
}

fn compiled() -> std::sync::Arc<Compiled> {
    Compiler::new().compile(&contract()).expect("compiles")
}

fn refused(change: impl FnOnce(&mut v1::ContractDraft)) -> String {
    let mut draft = draft();
    change(&mut draft);
    let error = Contract::from_draft(&draft, BTreeSet::new()).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InvalidRequest);
    error.to_string()
}

#[test]
fn a_draft_with_anything_wrong_is_refused() {
    for name in ["", "1a", "a b", "a/b", "é", &"a".repeat(65), "-a"] {
        assert!(refused(|d| d.name = name.into()).contains("a name is"), "{name}");
    }
    for version in ["", "1", "1.0", "v1.0.0", "01.0.0", &format!("1.0.0-{}", "a".repeat(60))] {
        assert!(refused(|d| d.version = version.into()).contains("semantic version"), "{version}");
    }
    for timeout in [0, 600_001] {
        assert!(refused(|d| d.timeout_ms = timeout).contains("timeout_ms"));
    }
    for effects in [0, 4, -1] {
        assert!(refused(|d| d.effects = effects).contains("effects is"));
        assert!(refused(|d| d.risk = effects).contains("risk is"));
    }
    assert!(refused(|d| d.security_classification = "internal".into()).contains("PUBLIC"));
    assert!(refused(|d| d.supports_streaming = true).contains("chunk schema"));
    assert!(refused(|d| d.chunk_schema_json = b"{}".to_vec()).contains("streaming"));
    assert!(refused(|d| d.tags = vec!["a".into(), "a".into()]).contains("tags"));
    assert!(refused(|d| d.required_roles = vec![String::new()]).contains("required_roles"));
    for schema in [
        "",
        "{",
        "[]",
        "true",
        "{}",
        r#"{"type":"array"}"#,
        r#"{"type":["object","null"]}"#,
        r#"{"type":"object","type":"object"}"#,
    ] {
        assert!(refused(|d| d.parameters_json = schema.into()).contains("parameters schema"), "{schema}");
    }
    let remote = r#"{"$ref":"http://169.254.169.254/"}"#;
    assert!(refused(|d| d.return_type_json = remote.into()).contains("nothing is fetched"));
    assert!(refused(|d| d.policy_visible[0].path = "/nowhere".into()).contains("not a declared property"));
    assert!(refused(|d| d.policy_visible[0].path = "repo".into()).contains("not a declared property"));
    assert!(refused(|d| d.policy_visible[0].cedar_type = "Long".into()).contains("not declared as a Long"));
    assert!(refused(|d| d.policy_visible[0].cedar_type = "ipaddr".into()).contains("cedar_type"));
    assert!(refused(|d| d.policy_visible[1].path = "/repo".into()).contains("twice"));
}

#[test]
fn the_digest_is_of_the_content() {
    let first = contract();
    let mut reordered = draft();
    let parameters = String::from_utf8(reordered.parameters_json).expect("text").replace(':', " :  ");
    reordered.parameters_json = parameters.into();
    let same = Contract::from_draft(&reordered, BTreeSet::new()).expect("valid");
    assert_eq!(first.digest(), same.digest(), "spelling makes no difference");
    let mut other = draft();
    other.timeout_ms += 1;
    let other = Contract::from_draft(&other, BTreeSet::new()).expect("valid");
    assert_ne!(first.digest(), other.digest());
    let offered = Contract::from_draft(&draft(), BTreeSet::from([tenant(1)])).expect("valid");
    assert_ne!(first.digest(), offered.digest());
    // Pinned: stored digests must never change their meaning.
    assert_eq!(first.digest().to_string(), GOLDEN);
}

/// Computed by another program too.
const GOLDEN: &str = "12e6c9ef9b15da42e967038ef50fdcfb5575512cdc38db2e2ed13d1554dc0a49";

fn violations(arguments: &Value) -> Vec<(String, String)> {
    match compiled().check_arguments(arguments.to_string().as_bytes()) {
        Err(Error::Violations { violations, .. }) => {
            violations.into_iter().map(|v| (v.pointer, v.expected)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn violations_say_where_and_what_was_expected_and_never_what_was_found() {
    let one = |arguments: Value, pointer: &str, expected: &str| {
        assert_eq!(violations(&arguments), [(pointer.to_owned(), expected.to_owned())], "{arguments}");
    };
    one(json!({}), "", "the property \"repo\"");
    one(json!([]), "", "a value of type object");
    one(json!({"repo": "aesp", "max": 0}), "/max", "at least 1");
    one(json!({"repo": "aesp", "max": "5"}), "/max", "a value of type integer");
    one(json!({"repo": null}), "/repo", "a value of type string");
    one(json!({"repo": "aesp", "s3cr3t": 1}), "", "no properties but those declared");
    one(json!({"repo": "aesp", "kind": "s3cr3t"}), "/kind", "one of [\"a\",\"b\"]");
    one(json!({"repo": "UPPER"}), "/repo", "a text that matches ^[a-z]+$");
    one(json!({"repo": "aesp", "filter": {"paths": ["a", 5]}}), "/filter/paths/1", "a value of type string");
    let all = json!({"repo": "aesp", "filter": {"paths": vec![json!(1); 500]}});
    assert_eq!(violations(&all).len(), 10);
    let secret = json!({"repo": "S3CR3T S3CR3T", "max": "S3CR3T", "kind": "S3CR3T", "dry": "S3CR3T", "filter": {"paths": "S3CR3T"}});
    let error = compiled().check_arguments(secret.to_string().as_bytes()).expect_err("violates");
    assert!(!format!("{error} {error:?}").contains("S3CR3T"));
    assert_eq!(error.code(), ErrorCode::SchemaViolation);
}

#[test]
fn documents_are_bounded() {
    let compiled = compiled();
    let code = |json: &[u8]| compiled.check_arguments(json).map_err(|error| error.code());
    assert_eq!(code(br#"{"repo":"aesp"}"#), Ok(json!({"repo": "aesp"})));
    let long = format!(r#"{{"repo":"{}"}}"#, "a".repeat(1 << 20));
    for bad in [
        long.as_bytes(),
        b"{\"repo\":\"\xff\"}",
        b"{",
        br#"{"repo":"a","repo":"a"}"#,
        br#"{"repo":"a","max":99999999999999999999}"#,
        b"\0",
        b"null",
    ] {
        assert_eq!(code(bad), Err(ErrorCode::SchemaViolation));
    }
    assert!(
        compiled.check_arguments(b"").is_err_and(|error| error.to_string().contains("repo")),
        "nothing is {{}}"
    );
    assert!(compiled.check_result(br#"["a"]"#).is_ok());
    assert!(compiled.check_result(br#"["a",1]"#).is_err());
    assert!(compiled.check_chunk(b"1").is_err());
}

#[test]
fn policies_get_typed_arguments_or_none() {
    let compiled = compiled();
    let get = |arguments: Value| compiled.policy_arguments(&arguments);
    let all =
        get(json!({"repo": "r", "max": 5, "price": 1.25, "dry": true, "filter": {"paths": ["b", "a", "b"]}}));
    let all = all.expect("typed");
    assert_eq!(all["/repo"], PolicyValue::String("r".into()));
    assert_eq!(all["/max"], PolicyValue::Long(5));
    assert_eq!(all["/price"], PolicyValue::Decimal(12_500));
    assert_eq!(all["/dry"], PolicyValue::Bool(true));
    assert_eq!(all["/filter/paths"], PolicyValue::Set(["a".to_owned(), "b".to_owned()].into()));
    assert_eq!(get(json!({})).expect("nothing to see").len(), 0);
    assert_eq!(get(json!({"max": 3.0})).expect("an integer")["/max"], PolicyValue::Long(3));
    for (price, units) in [
        (json!(-0.0001), -1),
        (json!(-1.5), -15_000),
        (json!(7), 70_000),
        (json!(0.1), 1_000),
        (json!(1e3), 10_000_000),
    ] {
        assert_eq!(get(json!({"price": price})).expect("a decimal")["/price"], PolicyValue::Decimal(units));
    }
    for hidden in [
        json!({"price": 0.000_01}),
        json!({"price": 1e300}),
        json!({"max": 1.5}),
        json!({"max": 1e18}),
        json!({"repo": null}),
        json!({"filter": {"paths": [1]}}),
        json!({"price": i64::MAX}),
    ] {
        assert!(matches!(get(hidden.clone()), Err(Error::NotVisible(_))), "{hidden}");
    }
}

#[test]
fn development_contracts_say_so() {
    let development = Contract::development(&draft()).expect("valid");
    assert!(development.is_development() && development.to_wire().origin == "development");
    let compiler = Compiler::new();
    assert!(!compiler.compile(&contract()).expect("compiles").is_development());
    assert!(
        compiler.compile(&development).expect("compiles").is_development(),
        "not the other from the cache"
    );
    assert!(Contract::development(&v1::ContractDraft { offered_to: vec!["x".into()], ..draft() }).is_err());
}

fn reasons(import: &Import) -> Vec<(&str, &str)> {
    import.refused.iter().map(|refusal| (refusal.name.as_str(), refusal.reason.as_str())).collect()
}

#[test]
fn adm_manifests_become_drafts() {
    let manifest = json!({"version": "1.0", "tools": [{"function_declarations": [
        {"name": "weather", "description": "Tells the weather.", "parameters": {"type": "OBJECT", "required": ["place"], "properties": {
            "place": {"type": "STRING", "description": "Where."}, "days": {"type": "INTEGER", "minimum": 1},
            "units": {"type": "STRING", "enum": ["C", "F"]}, "at": {"type": "ARRAY", "items": {"type": "NUMBER"}}}}},
        {"name": "ping"},
        {"name": "no spaces please"},
        {"name": "nulls", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}}},
        {"name": "lower", "parameters": {"type": "object"}},
        {"name": "odd", "parameters": {"type": "OBJECT", "oneOf": []}},
        {"name": "ping"},
        7,
    ]}]});
    let import = import_adm(manifest.to_string().as_bytes(), "0.1.0").expect("a manifest");
    let names: Vec<_> = import.drafts.iter().map(|draft| draft.name.as_str()).collect();
    assert_eq!((names, reasons(&import).len()), (vec!["weather", "ping"], 6), "{:?}", import.refused);
    let weather = Contract::from_draft(&import.drafts[0], BTreeSet::new()).expect("valid");
    let weather = Compiler::new().compile(&weather).expect("compiles");
    assert!(weather.check_arguments(br#"{"place":"Jena","days":2,"units":"C","at":[1.5]}"#).is_ok());
    for wrong in [
        r#"{"place":null}"#,
        r#"{"place":"Jena","days":0}"#,
        r#"{"place":"Jena","more":1}"#,
        r#"{"place":"Jena","units":"K"}"#,
    ] {
        assert!(weather.check_arguments(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert_eq!(weather.contract().effects(), crate::Effects::NonIdempotent);
    for wrong in ["", "[]", "{}", r#"{"tools":7}"#, r#"{"tools":[{}]}"#] {
        assert!(matches!(import_adm(wrong.as_bytes(), "0.1.0"), Err(Error::InvalidImport(_))), "{wrong}");
    }
}

#[test]
fn mcp_lists_become_drafts() {
    let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
    let list = json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [
        {"name": "log", "description": "d", "inputSchema": {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}},
            "annotations": {"readOnlyHint": true}},
        {"name": "sum", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": true, "destructiveHint": false},
            "outputSchema": {"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "integer"}}}},
        {"name": "wipe", "inputSchema": {"type": "object"}},
        {"name": "tree", "inputSchema": tree},
        {"name": "none"},
        {"inputSchema": {"type": "object"}},
    ]}});
    let import = import_mcp(list.to_string().as_bytes(), "1.0.0", "git_").expect("a list");
    let kinds: Vec<_> = import.drafts.iter().map(|d| (d.name.as_str(), d.effects(), d.risk())).collect();
    assert_eq!(
        kinds,
        [
            ("git_log", v1::Effects::ReadOnly, v1::Risk::Low),
            ("git_sum", v1::Effects::Idempotent, v1::Risk::Medium),
            ("git_wipe", v1::Effects::NonIdempotent, v1::Risk::High),
        ]
    );
    assert_eq!(reasons(&import).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["tree", "none", ""]);
    let compile = |number: usize| {
        let contract = Contract::from_draft(&import.drafts[number], BTreeSet::new()).expect("valid");
        Compiler::new().compile(&contract).expect("compiles")
    };
    assert!(compile(0).check_arguments(br#"{"n":null}"#).is_ok());
    assert!(compile(0).check_result(br#"{"content":[{"type":"text","text":"x"}]}"#).is_ok());
    assert!(compile(0).check_result(br#"{"content":["x"]}"#).is_err());
    assert!(compile(1).check_result(br#"{"content":[],"structuredContent":{"n":1}}"#).is_ok());
    assert!(compile(1).check_result(br#"{"content":[],"structuredContent":{"n":"1"}}"#).is_err());
    assert!(compile(1).check_result(br#"{"content":[]}"#).is_err());
}

proptest! {
    #[test]
    fn imports_never_panic_and_drafts_are_contracts(bytes in proptest::collection::vec(any::<u8>(), 0..200), tools in json_value()) {
        drop(import_adm(&bytes, "1.0.0"));
        drop(import_mcp(&bytes, "1.0.0", ""));
        for import in [
            import_mcp(json!({"tools": [{"name": "t", "inputSchema": tools}]}).to_string().as_bytes(), "1.0.0", ""),
            import_adm(json!({"tools": [{"function_declarations": [{"name": "t", "parameters": tools}]}]}).to_string().as_bytes(), "1.0.0"),
        ] {
            for draft in import.expect("a list").drafts {
                let contract = Contract::from_draft(&draft, BTreeSet::new()).expect("drafts are valid");
                prop_assert!(Compiler::new().compile(&contract).is_ok());
            }
        }
    }

    #[test]
    fn what_checks_is_what_was_sent(value in json_value()) {
        let open = v1::ContractDraft { parameters_json: br#"{"type":"object"}"#.to_vec(), policy_visible: vec![], ..draft() };
        let contract = Contract::from_draft(&open, BTreeSet::new()).expect("valid");
        let compiled = Compiler::new().compile(&contract).expect("compiles");
        let document = json!({"v": value});
        prop_assert_eq!(compiled.check_arguments(document.to_string().as_bytes()).expect("accepted"), document);
    }
}

/// Values among which schemas are not rare.
fn json_value() -> impl Strategy<Value = Value> {
    let key = proptest::sample::select(vec![
        "type",
        "properties",
        "items",
        "$ref",
        "anyOf",
        "pattern",
        "a",
        "required",
        "minimum",
        "$defs",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        proptest::sample::select(vec!["object", "string", "#", "#/$defs/a", "^a+$", "(", "OBJECT", "é"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(key.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

fn tenant(number: u8) -> TenantId {
    TenantId::from_bytes([number; 16])
}

/// Runs a transaction whose body is an expression over `tx` and clones of what is named in brackets.
macro_rules! in_tx {
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

struct World {
    store: Store,
    compiler: std::sync::Arc<Compiler>,
}

impl World {
    async fn new() -> Self {
        let store = Store::for_tests();
        for number in 1..=2 {
            in_tx!(store, [], |tx| tx.create_tenant_keys(tenant(number)).await.map_err(Error::from))
                .expect("keys");
        }
        Self { store, compiler: Default::default() }
    }

    async fn draft(&self, owner: TenantId, version: &str, offered: &[TenantId]) -> Result<(), Error> {
        let draft = v1::ContractDraft { version: version.into(), ..draft() };
        let contract = Contract::from_draft(&draft, offered.iter().copied().collect())?;
        in_tx!(self.store, [contract], |tx| create_draft(tx, owner, &contract, Origin::Administrator).await)
            .map(drop)
    }

    async fn activate(&self, owner: TenantId, version: &'static str) -> Result<(), Error> {
        let by = PrincipalId::from_bytes([9; 16]);
        in_tx!(self.store, [], |tx| activate(tx, owner, ("git_log", version), None, by, NOW).await).map(drop)
    }

    async fn retire(&self, owner: TenantId, version: &'static str) -> Result<(), Error> {
        in_tx!(self.store, [], |tx| retire(tx, owner, ("git_log", version), "old").await).map(drop)
    }

    /// Returns what a tenant gets for the name without and with each version.
    async fn finds(&self, who: TenantId) -> (Option<String>, Vec<&'static str>) {
        let compiler = &self.compiler;
        let snapshot =
            in_tx!(self.store, [compiler], |tx| Snapshot::load(tx, who, &compiler).await).expect("loads");
        let default = snapshot.find("git_log", None).map(|found| found.contract().version().to_string());
        let versions = ["1.0.0", "1.1.0", "2.0.0"].into_iter();
        (default, versions.filter(|version| snapshot.find("git_log", Some(version)).is_some()).collect())
    }
}

#[tokio::test]
async fn versions_live_from_draft_to_retirement() {
    let world = World::new().await;
    world.draft(tenant(1), "1.0.0", &[]).await.expect("stored");
    world.draft(tenant(1), "1.0.0", &[]).await.expect("the same again");
    assert_eq!(world.finds(tenant(1)).await, (None, vec![]), "a draft can't be called");
    world.activate(tenant(1), "1.0.0").await.expect("active");
    world.draft(tenant(1), "1.1.0", &[]).await.expect("stored");
    world.activate(tenant(1), "1.1.0").await.expect("active");
    assert_eq!(world.finds(tenant(1)).await, (Some("1.1.0".into()), vec!["1.0.0", "1.1.0"]));
    world.retire(tenant(1), "1.1.0").await.expect("retired");
    assert_eq!(world.finds(tenant(1)).await, (None, vec!["1.0.0"]), "nobody is moved to an older version");
    assert!(matches!(world.activate(tenant(1), "1.1.0").await, Err(Error::Retired)));
    assert!(matches!(world.retire(tenant(1), "1.1.0").await, Err(Error::Retired)));
    world.activate(tenant(1), "1.0.0").await.expect("active again");
    assert_eq!(world.finds(tenant(1)).await, (Some("1.0.0".into()), vec!["1.0.0"]));
    assert!(matches!(world.activate(tenant(1), "9.0.0").await, Err(Error::NotFound)));
    assert_eq!(world.finds(tenant(2)).await, (None, vec![]), "another tenant sees nothing of it");
}

#[tokio::test]
async fn a_version_means_one_content() {
    let world = World::new().await;
    world.draft(tenant(1), "1.0.0", &[]).await.expect("stored");
    let other = v1::ContractDraft { version: "1.0.0".into(), description: "Other.".into(), ..draft() };
    let other = Contract::from_draft(&other, BTreeSet::new()).expect("valid");
    let again = in_tx!(world.store, [other], |tx| create_draft(tx, tenant(1), &other, Origin::Mcp).await);
    assert!(matches!(again, Err(Error::VersionTaken { .. })));
    let by = PrincipalId::from_bytes([9; 16]);
    let expecting = in_tx!(world.store, [], |tx| {
        activate(tx, tenant(1), ("git_log", "1.0.0"), Some(&[0; 32]), by, NOW).await
    });
    assert!(matches!(expecting, Err(Error::DigestMismatch)));
    let (owner, row) = in_tx!(world.store, [], |tx| get_contract(tx, tenant(1), "git_log", Some("1.0.0"))
        .await)
    .expect("found");
    assert_eq!(
        (owner, row.status, row.to_wire(owner).approval_status()),
        (tenant(1), Status::Draft, v1::ContractStatus::Draft)
    );
    assert_eq!(row.to_wire(owner).digest, row.contract().digest().as_bytes());
}

#[tokio::test]
async fn the_platform_offers_and_names_do_not_clash() {
    let world = World::new().await;
    assert!(matches!(world.draft(tenant(1), "1.0.0", &[tenant(2)]).await, Err(Error::NotPlatform)));
    world.draft(TenantId::PLATFORM, "1.0.0", &[tenant(1)]).await.expect("stored");
    world.draft(tenant(1), "2.0.0", &[]).await.expect("drafts may have any name");
    world.activate(TenantId::PLATFORM, "1.0.0").await.expect("active");
    assert_eq!(world.finds(tenant(1)).await.0, Some("1.0.0".into()));
    assert_eq!(world.finds(tenant(2)).await, (None, vec![]), "not offered");
    assert!(matches!(world.activate(tenant(1), "2.0.0").await, Err(Error::NameTaken { .. })));
    let hidden = in_tx!(world.store, [], |tx| get_contract(tx, tenant(2), "git_log", Some("1.0.0")).await);
    assert!(matches!(hidden, Err(Error::NotFound)));
    let listed = in_tx!(world.store, [], |tx| list_contracts(tx, tenant(1), Some(Status::Active)).await)
        .expect("listed");
    assert_eq!(listed.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), [TenantId::PLATFORM]);

    let before =
        in_tx!(world.store, [], |tx| tx.revision(tenant(1)).await.map_err(Error::from)).expect("read");
    world.retire(TenantId::PLATFORM, "1.0.0").await.expect("retired");
    let after =
        in_tx!(world.store, [], |tx| tx.revision(tenant(1)).await.map_err(Error::from)).expect("read");
    assert!(after > before, "those it was offered to notice");
    world.activate(tenant(1), "2.0.0").await.expect("the name is free");
    world.draft(TenantId::PLATFORM, "1.1.0", &[tenant(1)]).await.expect("stored");
    assert!(matches!(world.activate(TenantId::PLATFORM, "1.1.0").await, Err(Error::NameTaken { .. })));
}

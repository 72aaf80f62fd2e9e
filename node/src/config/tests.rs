use std::path::{Path, PathBuf};

use super::*;

fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aesp.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let sources = Sources { file: Some(file), environment, flags: Vec::new() };
    load(&sources).map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn the_printed_default_is_the_default() {
    let printed: Config = toml::from_str(DEFAULT_FILE).unwrap();
    assert_eq!(printed, Config::default());
}

#[test]
fn later_sources_win() {
    let text = "[listen]\ngrpc = \"127.0.0.1:1\"\nhttps = \"127.0.0.1:2\"\nmetrics = \"127.0.0.1:3\"\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aesp.toml");
    std::fs::write(&file, text).unwrap();
    let sources = Sources {
        file: Some(file),
        environment: [
            ("AESP_LISTEN__HTTPS", "127.0.0.1:20"),
            ("AESP_LISTEN__METRICS", "127.0.0.1:30"),
            ("AESP_API_KEY", "not a setting"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into(),
        flags: vec![("listen.metrics".into(), "--listen-metrics".into(), "127.0.0.1:300".into())],
    };
    let listen = load(&sources).unwrap().listen;
    assert_eq!((listen.grpc.port(), listen.https.port(), listen.metrics.port()), (1, 20, 300));
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    let error = load_text("[node]\nname = \"a\"\n\n[tls]\ncertifcate = \"x\"\n", &[]).unwrap_err();
    assert_eq!(error, "aesp.toml:5: unknown key `tls.certifcate`; did you mean `tls.certificate`?");
    let error = load_text("\n[stoer]\npath = \"memory\"\n", &[]).unwrap_err();
    assert_eq!(error, "aesp.toml:2: unknown key `stoer`; did you mean `store`?");
    let error = load_text("", &[("AESP_TLS__KYE", "x")]).unwrap_err();
    assert_eq!(error, "environment variable AESP_TLS__KYE: unknown key `tls.kye`; did you mean `tls.key`?");
}

#[test]
fn a_wrong_value_says_what_would_be_right() {
    let error = load_text("[limits]\nconnections = \"many\"\n", &[]).unwrap_err();
    assert!(
        error.starts_with("aesp.toml:2: `limits.connections` is string \"many\"; it must be "),
        "{error}"
    );
    let error = load_text("[limits]\n\nhandshake_timeout_ms = 1\n", &[]).unwrap_err();
    assert_eq!(error, "aesp.toml:3: `limits.handshake_timeout_ms` is \"1\"; it must be from 100 to 60000");
    let error = load_text("[listen]\ngrpc = \"localhost\"\n", &[]).unwrap_err();
    assert!(
        error.contains("aesp.toml:2: `listen.grpc` is \"localhost\"; it must be an address with a port"),
        "{error}"
    );
    let error = load_text("[log]\nformat = \"xml\"\n", &[]).unwrap_err();
    assert_eq!(error, "aesp.toml:2: `log.format` is \"xml\"; it must be one of json, text");
    let error = load_text("[store]\npath = \"postgres:x\"\n", &[]).unwrap_err();
    assert!(error.ends_with("it must be `lmdb:PATH`, `fdb:CLUSTER_FILE` or `memory`"), "{error}");
    let error = load_text("", &[("AESP_LIMITS__CONNECTIONS", "0")]).unwrap_err();
    assert!(
        error.starts_with("environment variable AESP_LIMITS__CONNECTIONS: `limits.connections` is \"0\""),
        "{error}"
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let error = load_text("[node]\nname = \n", &[]).unwrap_err();
    assert!(error.starts_with("aesp.toml:2: not valid TOML: "), "{error}");
}

#[test]
fn paths_are_seen_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aesp.toml");
    std::fs::write(&file, "[tls]\nkey = \"pki/k.pem\"\ncrls = [\"a.crl\"]\n").unwrap();
    let environment = [("AESP_TLS__CERTIFICATE".into(), "here.pem".into())].into();
    let config = load(&Sources { file: Some(file), environment, flags: Vec::new() }).unwrap();
    assert_eq!(config.tls.key, folder.path().join("pki/k.pem"));
    assert_eq!(config.tls.crls, [folder.path().join("a.crl")]);
    assert_eq!(config.tls.certificate, PathBuf::from("here.pem"));
    assert_eq!(config.store.engine(), Some(Engine::Lmdb(folder.path().join("aesp-data/store"))));
    assert_eq!(config.keys.master_key_file.file_name(), Path::new("master.key").file_name());
}

#[test]
fn a_cluster_is_checked_and_its_paths_are_seen_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aesp.toml");
    std::fs::write(&file, "[cluster]\nsecret_file = \"s\"\ncertificate = \"n.pem\"\nkey = \"n.key\"\n")
        .unwrap();
    let environment = [
        ("AESP_CLUSTER__LEASE_MS".into(), "3000".into()),
        ("AESP_CLUSTER__SEEDS".into(), "a:1, b.example:2".into()),
    ];
    let config =
        load(&Sources { file: Some(file), environment: environment.into(), flags: Vec::new() }).unwrap();
    let cluster = config.cluster.as_ref().unwrap();
    assert_eq!(cluster.secret_file, folder.path().join("s"));
    assert_eq!(cluster.lease(), std::time::Duration::from_secs(3));
    assert_eq!(cluster.seeds, ["a:1", "b.example:2"]);
    assert_eq!(cluster.tls(&config.tls).certificate, folder.path().join("n.pem"));
    assert_eq!(cluster.tls(&config.tls).client_ca, config.tls.client_ca);
    assert_eq!(load_text("", &[]).unwrap().cluster, None);
}

#[test]
fn what_no_cluster_can_be_made_of_is_refused() {
    let refused = |text: &str, expected: &str| {
        let error = load_text(text, &[]).unwrap_err();
        assert!(error.contains(expected), "{error}");
    };
    refused(
        "[cluster]\nlease_ms = 10\n",
        "aesp.toml:2: `cluster.lease_ms` is \"10\"; it must be from 500 to 60000",
    );
    refused("[cluster]\nprotocol_max = 9\n", "`cluster.protocol_max` is \"9\"; it must be 0 for the newest");
    refused("[cluster]\nseed = []\n", "unknown key `cluster.seed`; did you mean `cluster.seeds`?");
    refused("[cluster]\nseeds = [\"a\"]\n", "`cluster.seeds` is \"a\"; it must be a host and a port");
    refused("[cluster]\nadvertise = \"a:0\"\n", "`cluster.advertise` is \"a:0\"");
    refused("[cluster]\n[listen]\npeers = \"0.0.0.0:9444\"\n", "because listen.peers names no host");
    refused("[cluster]\ncertificate = \"a\"\n", "given together with cluster.key");
    refused(
        "[cluster]\n[store]\npath = \"memory\"\n",
        "`lmdb:PATH` or `fdb:CLUSTER_FILE` where there is a [cluster]",
    );
}

#[test]
fn foundationdb_is_named_by_its_cluster_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("aesp.toml");
    let text = "[store]\npath = \"fdb:fdb.cluster\"\n[store.fdb]\nlibrary = \"libfdb_c.so\"\ndatacenter = \"dc1\"\n\
                certificate = \"a.pem\"\nkey = \"a.key\"\nca = \"ca.pem\"\n";
    std::fs::write(&file, text).unwrap();
    let config = load(&Sources { file: Some(file), ..Default::default() }).unwrap();
    let cluster_file = folder.path().join("fdb.cluster");
    assert_eq!(config.store.engine(), Some(Engine::Fdb(cluster_file.clone())));
    let options = config.store.fdb.options(&cluster_file);
    assert_eq!((options.prefix.as_str(), options.datacenter.as_deref()), ("aesp", Some("dc1")));
    assert_eq!(options.library.unwrap(), Path::new("libfdb_c.so"), "for the system to find");
    assert_eq!(options.tls.unwrap().key, folder.path().join("a.key"));
}

#[test]
fn where_the_node_runs_is_where_it_reads_unless_something_else_is_said() {
    let text = "[node]\ndatacenter = \"dc1\"\nzone = \"dc1-b\"\n[store]\npath = \"fdb:f\"\n";
    let config = load_text(text, &[]).unwrap();
    assert_eq!(
        (config.node.locality().datacenter, config.node.locality().zone),
        ("dc1".into(), "dc1-b".into())
    );
    assert_eq!(config.store.fdb.options(Path::new("f")).datacenter.as_deref(), Some("dc1"));
    let other = load_text(text, &[("AESP_STORE__FDB__DATACENTER", "dc2")]).unwrap();
    assert_eq!(other.store.fdb.datacenter.as_deref(), Some("dc2"));
    assert_eq!(other.node.datacenter.as_deref(), Some("dc1"));
    let error = load_text(text, &[("AESP_NODE__ZONE", "two words")]).unwrap_err();
    assert!(error.starts_with("environment variable AESP_NODE__ZONE: `node.zone` is"), "{error}");
}

#[test]
fn half_of_the_tls_files_is_refused() {
    let error = load_text("[store.fdb]\nprefix = \"two words\"\n", &[]).unwrap_err();
    assert!(error.starts_with("aesp.toml:2: `store.fdb.prefix` is \"two words\""), "{error}");
    let error = load_text("[store.fdb]\nkey = \"a.key\"\n", &[]).unwrap_err();
    assert!(error.contains("`store.fdb.certificate`") && error.contains("together with"), "{error}");
    let error = load_text("", &[("AESP_STORE__FDB__VERIFY_PEERS", "Check.Valid=1")]).unwrap_err();
    assert!(error.starts_with("environment variable AESP_STORE__FDB__VERIFY_PEERS: "), "{error}");
}

#[test]
fn backups_go_somewhere() {
    let good = "[store]\npath = \"lmdb:s\"\n[backup]\ntarget = \"file:///var/b\"\ncredentials_file = \"c\"\n";
    let backup = load_text(good, &[("AESP_BACKUP__SEGMENT_SECONDS", "2")]).unwrap().backup.unwrap();
    assert_eq!((backup.segment_seconds, backup.keep_days), (2, 30));
    assert!(backup.credentials_file.unwrap().is_absolute(), "beside the file");
    for (text, key) in [
        (good.replace("lmdb:s", "memory"), "store.path"),
        (good.replace("file:///var/b", "/var/b"), "backup.target"),
        (good.replace("file:///var/b", "file:///"), "backup.target"),
        (format!("{good}segment_seconds = 11\n"), "backup.segment_seconds"),
        (format!("{good}object_lock_days = 1\n"), "backup.object_lock_days"),
        (format!("{good}drill_hour = 1\n"), "backup.drill_hour"),
    ] {
        let error = load_text(&text, &[]).unwrap_err();
        assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
    }
}

#[test]
fn backups_of_foundationdb_have_settings_of_their_own() {
    let good = "[store]\npath = \"fdb:f\"\n[backup]\ntarget = \"file:///var/b\"\ndrill_hours = 0\n";
    let backup = load_text(good, &[("AESP_BACKUP__FDB__AGENTS", "3")]).unwrap().backup.unwrap();
    assert_eq!((backup.fdb.agents, backup.fdb.programs.as_path()), (3, Path::new("/usr/bin")));
    let drills = format!("{}[backup.fdb]\ndrill_cluster = \"d\"\n", good.replace("drill_hours = 0\n", ""));
    let drill_cluster = load_text(&drills, &[]).unwrap().backup.unwrap().fdb.drill_cluster.unwrap();
    assert!(drill_cluster.is_absolute(), "beside the file");
    for (text, key) in [
        (good.replace("file:///var/b", "s3://b/p"), "backup.target"),
        (good.replace("drill_hours = 0\n", ""), "backup.drill_hours"),
        (format!("{good}segment_seconds = 2\n"), "backup.segment_seconds"),
        (format!("{good}object_lock_days = 1\n"), "backup.object_lock_days"),
        (format!("{good}ca = \"x\"\n"), "backup.ca"),
        (format!("{good}[backup.fdb]\nagents = 65\n"), "backup.fdb.agents"),
    ] {
        let error = load_text(&text, &[]).unwrap_err();
        assert!(error.contains(&format!("`{key}`")), "{key}: {error}");
    }
    let secret = good.replace("file:///var/b", "blobstore://key:canary7z@host/name?bucket=b");
    let error = load_text(&secret, &[]).unwrap_err();
    assert!(error.contains("credentials_file") && !error.contains("canary7z"), "{error}");
}

#[test]
fn a_key_manager_is_configured_wholly_or_not_at_all() {
    let error = load_text("[keys]\nprovider = \"vault\"\n", &[]).unwrap_err();
    assert!(
        error.starts_with("aesp.toml:2: `keys.provider` is \"vault\"; it must be accompanied by"),
        "{error}"
    );
    let vault = "[keys]\nprovider = \"vault\"\n[keys.vault]\naddress = \"https://vault.example:8200\"\n";
    let error = load_text(vault, &[]).unwrap_err();
    assert!(error.contains("`keys.vault.token` is \"\"; it must be a reference to the token"), "{error}");
    let error = load_text(&vault.replace("https", "http"), &[]).unwrap_err();
    assert!(
        error.starts_with("aesp.toml:4: `keys.vault.address` is \"http://vault.example:8200\""),
        "{error}"
    );
    let config = load_text(vault, &[("AESP_KEYS__VAULT__TOKEN", "env:VAULT_TOKEN")]).unwrap();
    assert_eq!(config.keys.vault.unwrap().token, Some("env:VAULT_TOKEN".parse().unwrap()));
    let beside = load_text(&format!("{vault}token = \"file:vault.token\"\n"), &[]).unwrap();
    let token = beside.keys.vault.unwrap().token.unwrap().to_string();
    assert!(token.starts_with("file:/") && token.ends_with("/vault.token"), "{token}");
}

#[test]
fn a_secret_in_the_place_of_its_reference_is_not_repeated() {
    let vault = "[keys.vault]\naddress = \"https://vault.example:8200\"\ntoken = \"s.canary7z\"\n";
    let error = load_text(vault, &[]).unwrap_err();
    assert!(error.contains("`keys.vault.token`") && error.contains("file:PATH, env:NAME"), "{error}");
    assert!(!error.contains("canary7z"), "{error}");
    let error = load_text("", &[("AESP_KEYS__PKCS11__PIN", "canary7z")]).unwrap_err();
    assert!(!error.contains("canary7z"), "{error}");
}

#[test]
fn bounds_of_retention_are_checked() {
    let text = |default: u32, minimum: u32, maximum: u32| {
        format!(
            "[audit.retention]\ndefault_days = {default}\nminimum_days = {minimum}\nmaximum_days = {maximum}\n"
        )
    };
    let limits = load_text(&text(365, 30, 3_650), &[]).unwrap().audit.retention;
    assert_eq!((limits.default_days, limits.minimum_days, limits.maximum_days), (365, 30, 3_650));
    for (wrong, key) in [(text(0, 30, 3_650), "default_days"), (text(29, 30, 0), "default_days")] {
        let error = load_text(&wrong, &[]).unwrap_err();
        assert!(error.contains(&format!("`audit.retention.{key}`")), "{error}");
    }
    let error = load_text(&text(0, 30, 29), &[]).unwrap_err();
    assert!(error.starts_with("aesp.toml:4: `audit.retention.maximum_days` is "), "{error}");
}

#[test]
fn each_sink_of_audit_events_is_checked_and_its_files_lie_beside() {
    let good = "[[audit.sinks]]\nname = \"a\"\ntarget = \"tls://a.example:6514\"\nca = \"ca.pem\"\n\n\
                [[audit.sinks]]\nname = \"b\"\nkind = \"webhook\"\ntarget = \"https://b.example/\"\nsecret = \"file:b\"\n";
    let sinks = load_text(good, &[]).unwrap().audit.sinks;
    assert_eq!(sinks.len(), 2);
    assert!(sinks[0].ca.as_ref().unwrap().is_absolute());
    assert!(sinks[1].secret.as_ref().unwrap().to_string().starts_with("file:/"));
    let error = load_text(&good.replace("https://b", "http://b"), &[]).unwrap_err();
    assert!(error.starts_with("aesp.toml:9: `audit.sinks.1.target` is \"http://b.example/\"; "), "{error}");
    let error = load_text(&good.replace("name = \"b\"", "name = \"a\""), &[]).unwrap_err();
    assert!(error.starts_with("aesp.toml:7: `audit.sinks.1.name` is \"a\"; "), "{error}");
    let error = load_text(&good.replace("secret", "secert"), &[]).unwrap_err();
    assert!(error.contains("did you mean `audit.sinks.1.secret`?"), "{error}");
    let error = load_text(&good.replace("file:b", "canary7z"), &[]).unwrap_err();
    assert!(error.contains("file:PATH, env:NAME") && !error.contains("canary7z"), "{error}");
}

#[test]
fn witnesses_and_anchors_are_checked_and_their_files_lie_beside() {
    const KEY: &str = "w+1fc0af23+BIqI49Pc1Vt1EfS5eJ3jV4l6mQeE1J0yJkqYyDqzJb0N";
    let key = aesp_merkle::Cosigner::new("w", [7; 32]).unwrap().to_string();
    let good = format!(
        "[audit]\nwitness_quorum = 1\n\n[[audit.witness]]\nname = \"a\"\nurl = \"https://a.example\"\nkey = \"{key}\"\n\
         ca = \"ca.pem\"\n\n[audit.anchor]\ntarget = \"s3://bucket/x\"\nsecret = \"file:b\"\nobject_lock_days = 9\n"
    );
    let audit = load_text(&good, &[]).unwrap().audit;
    assert!(audit.witness[0].ca.as_ref().unwrap().is_absolute());
    let anchor = audit.anchor.unwrap();
    assert_eq!(anchor.every_seconds, 60);
    assert!(anchor.secret.unwrap().to_string().starts_with("file:/"));
    for (from, to, names) in [
        ("https://a", "http://a", "audit.witness.0.url"),
        (key.as_str(), KEY, "audit.witness.0.key"),
        ("quorum = 1", "quorum = 2", "audit.witness_quorum"),
        ("quorum = 1", "quorum = 0", "audit.witness_quorum"),
        ("s3://bucket/x", "bucket", "audit.anchor.target"),
        ("secret = ", "every_seconds = 0\nsecret = ", "audit.anchor.every_seconds"),
        ("name = \"a\"", "name = \"A b\"", "audit.witness.0.name"),
    ] {
        let error = load_text(&good.replace(from, to), &[]).unwrap_err();
        assert!(error.contains(&format!("`{names}`")), "{to}: {error}");
    }
}

#[test]
fn the_reference_topologies_are_configurations() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/foundationdb");
    let mut found = 0;
    for topology in std::fs::read_dir(folder).unwrap() {
        let file = topology.unwrap().path().join("aesp.toml");
        if file.exists() {
            let sources = Sources { file: Some(file.clone()), environment: [].into(), flags: Vec::new() };
            let config = load(&sources).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(matches!(config.store.engine(), Some(Engine::Fdb(_))) && config.backup.is_some());
            found += 1;
        }
    }
    assert_eq!(found, 5);
}

#[test]
fn receivers_of_alerts_are_checked_one_by_one() {
    let good = "[alerts]\ndefault = [\"ops\"]\n\n\
                [[alerts.receivers]]\nname = \"ops\"\ntarget = \"https://a.example\"\nca = \"ca.pem\"\n\n\
                [[alerts.receivers]]\nname = \"hook\"\nkind = \"webhook\"\ntarget = \"https://b.example/\"\nsecret = \"file:b\"\n";
    let alerts = load_text(good, &[]).unwrap().alerts;
    assert_eq!((alerts.default.as_slice(), alerts.receivers.len()), (&["ops".to_owned()][..], 2));
    assert!(alerts.receivers[0].ca.as_ref().unwrap().is_absolute());
    assert!(alerts.receivers[1].secret.as_ref().unwrap().to_string().starts_with("file:/"));
    let error = load_text(&good.replace("https://b", "http://b"), &[]).unwrap_err().to_string();
    assert!(error.contains("`alerts.receivers.1.target` is \"http://b.example/\"; "), "{error}");
    let error = load_text(&good.replace("\"hook\"", "\"ops\""), &[]).unwrap_err().to_string();
    assert!(error.contains("`alerts.receivers.1.name` is \"ops\"; "), "{error}");
    let error = load_text(&good.replace("[\"ops\"]", "[\"duty\"]"), &[]).unwrap_err().to_string();
    assert!(error.contains("`alerts.default` is \"duty\"; "), "{error}");
}

//! The binary as a person meets it.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use assert_cmd::Command;

fn aesp(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("aesp").expect("was built");
    command.current_dir(folder).env_clear().env("HOME", folder);
    command
}

fn texts(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("runs");
    let text = |bytes| String::from_utf8(bytes).expect("is text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_bad_configuration_exits_64_and_names_the_line_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("aesp.toml"), "[node]\nname = \"a\"\n[listen]\ngrcp = \"127.0.0.1:1\"\n")
        .unwrap();
    for line in [vec!["config", "check"], vec!["node"]] {
        let (code, _, error) = texts(aesp(folder.path()).args(&line));
        assert_eq!(code, Some(64), "{error}");
        assert!(
            error.contains("aesp.toml:4: unknown key `listen.grcp`; did you mean `listen.grpc`?"),
            "{error}"
        );
        assert!(error.contains("code:  CONFIGURATION_ERROR") && error.contains("next:  "), "{error}");
    }
}

#[test]
fn errors_are_for_programs_when_the_output_is() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) =
        texts(aesp(folder.path()).args(["--config", "absent.toml", "-o", "json", "config", "check"]));
    assert_eq!(code, Some(64));
    let error: serde_json::Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["error"]["code"], "CONFIGURATION_ERROR", "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("absent.toml"), "{error}");
}

#[test]
fn missing_certificates_are_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, error) = texts(aesp(folder.path()).args(["config", "check"]));
    assert_eq!(code, Some(64));
    assert!(error.contains("aesp-data/pki/server.pem"), "{error}");
}

#[test]
fn the_default_configuration_can_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text, _) = texts(aesp(folder.path()).args(["config", "default"]));
    assert_eq!(code, Some(0));
    fs::write(folder.path().join("aesp.toml"), text).unwrap();
    let (code, shown, error) =
        texts(aesp(folder.path()).env("AESP_NODE__NAME", "other").args(["config", "show", "-o", "json"]));
    assert_eq!(code, Some(0), "{error}");
    assert!(shown.contains("\"other\""), "{shown}");
}

#[test]
fn usage_exits_64_and_help_0() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(texts(aesp(folder.path()).arg("tenent")).0, Some(64));
    assert_eq!(texts(aesp(folder.path()).args(["tenant", "create"])).0, Some(64));
    assert_eq!(texts(aesp(folder.path()).arg("--help")).0, Some(0));
    assert_eq!(texts(aesp(folder.path()).arg("version")).0, Some(0));
}

#[test]
fn a_directory_in_use_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("aesp-data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("precious"), "x").unwrap();
    let (code, _, error) = texts(aesp(folder.path()).arg("init"));
    assert_eq!(code, Some(1));
    assert!(error.contains("aesp-data exists already; nothing was changed"), "{error}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[test]
fn init_makes_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let (code, shown, error) = texts(aesp(folder.path()).args(["init", "-o", "json"]));
    assert_eq!(code, Some(0), "{error}");
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let key = shown["administrator_api_key"].as_str().unwrap();
    assert!(key.starts_with("aesp_"));
    let data = folder.path().join("aesp-data");
    for private in
        ["master.key", "cluster.secret", "pki/ca.key", "pki/server.key", "pki/node.key", "aesp.toml"]
    {
        let mode = fs::metadata(data.join(private)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{private}");
    }
    assert!(!fs::read_to_string(data.join("aesp.toml")).unwrap().contains(key));
    assert_eq!(texts(aesp(folder.path()).args(["config", "check"])).0, Some(0));

    let (code, _, error) = texts(aesp(folder.path()).arg("init"));
    assert_eq!(code, Some(1));
    assert!(error.contains("exists already") && error.contains("next:"), "{error}");

    let issue = ["pki", "issue", "--name", "git-1", "--runtime", "git-1", "-o", "json"];
    let (code, issued, error) = texts(aesp(folder.path()).args(issue));
    assert_eq!(code, Some(0), "{error}");
    let issued: serde_json::Value = serde_json::from_str(&issued).unwrap();
    assert_eq!(issued["identity"], "spiffe://aesp.local/runtime/git-1");
    assert_eq!(texts(aesp(folder.path()).args(issue)).0, Some(1), "never overwritten");
    let serial = issued["serial"].as_str().unwrap();
    assert_eq!(texts(aesp(folder.path()).args(["pki", "revoke", "--serial", serial])).0, Some(0));
    assert_eq!(texts(aesp(folder.path()).args(["pki", "revoke", "--serial", "xyz"])).0, Some(64));
}

#[test]
fn an_absent_node_exits_69() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    fs::write(folder.path().join("ca.pem"), certificate.cert.pem()).unwrap();
    let mut command = aesp(folder.path());
    command.args(["--endpoint", "https://127.0.0.1:1", "--ca", "ca.pem", "--token", "t", "tenant", "list"]);
    let (code, _, error) = texts(&mut command);
    assert_eq!(code, Some(69), "{error}");
    assert!(error.contains("next:  "), "{error}");
}

#[test]
fn a_node_of_a_cluster_is_checked_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let init = ["init", "--name", "n1", "--listen-peers", "127.0.0.1:9444"];
    assert_eq!(texts(aesp(folder.path()).args(init)).0, Some(0));
    let check = || texts(aesp(folder.path()).args(["config", "check", "-o", "json"]));
    let (code, shown, error) = check();
    assert_eq!(code, Some(0), "{error}");
    assert!(shown.contains("\"cluster\""), "{shown}");

    let issue = ["pki", "node", "n2", "--host", "n2.example", "-o", "json"];
    let (code, issued, error) = texts(aesp(folder.path()).args(issue));
    assert_eq!(code, Some(0), "{error}");
    assert!(issued.contains("spiffe://aesp.local/node/n2"), "{issued}");
    // Another node's certificate names another node.
    let (code, _, error) = texts(aesp(folder.path()).env("AESP_NODE__NAME", "n2").args(["config", "check"]));
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("spiffe://aesp.local/node/n2") && error.contains("aesp pki node n2"), "{error}");

    let secret = folder.path().join("aesp-data/cluster.secret");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, error) = check();
    assert_eq!(code, Some(64), "{error}");
    assert!(error.contains("cluster.secret") && error.contains("0600"), "{error}");
}

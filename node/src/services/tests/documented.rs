//! docs/audit-events.md against what the services declare and what stands in the code.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aesp_proto::Operations;

const PAGE: &str = include_str!("../../../../docs/audit-events.md");
/// Literals of the form of an action that are none.
const OTHERS: [&str; 5] = ["cluster.secret", "peer.invalid", "runtime.mode", "tenant.example", "key.pem"];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "config" && name != "cli" {
            sources(&path, out);
        } else if name.ends_with(".rs") && !name.contains("test") && name != "fuzzing.rs" {
            out.push(path);
        }
    }
}

/// Returns the literals in the code outside of its tests that have the form of an action: two names of letters with a dot.
fn literals(source: &str) -> BTreeSet<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let name = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_action =
        |text: &&str| text.split_once('.').is_some_and(|(object, verb)| name(object) && name(verb));
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('"').skip(1).step_by(2).collect::<Vec<_>>())
        .filter(is_action)
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_action_is_in_the_table_of_events() {
    let operations = Operations::load();
    let mut actions: BTreeSet<String> =
        operations.iter().map(|(_, operation)| operation.action.clone()).collect();
    let objects: BTreeSet<String> = actions
        .iter()
        .filter_map(|action| action.split_once('.').map(|(object, _)| object.to_owned()))
        .chain(["log", "store", "tls"].map(str::to_owned))
        .collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    let crates = fs::read_dir(root.join("actors")).unwrap().map(|entry| entry.unwrap().path());
    for folder in crates.chain([root.join("node"), root.join("cluster")]) {
        sources(&folder.join("src"), &mut files);
    }
    assert!(files.len() > 200, "{} files", files.len());
    for file in files {
        let found = literals(&fs::read_to_string(&file).unwrap());
        actions.extend(found.into_iter().filter(|text| {
            let object = text.split('.').next().unwrap_or_default();
            objects.contains(object) && !OTHERS.contains(&text.as_str())
        }));
    }
    // Those of the cluster are made of the notices' names.
    let notices = fs::read_to_string(root.join("cluster/src/notice.rs")).unwrap();
    let names = notices.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\","));
    actions.extend(names.map(|name| format!("cluster.{name}")));
    assert!(actions.contains("cluster.node_died") && actions.contains("tool.settle"));

    let missing: Vec<_> = actions.iter().filter(|action| !PAGE.contains(&format!("`{action}`"))).collect();
    assert!(missing.is_empty(), "not in docs/audit-events.md: {missing:?}");
}

#[test]
fn literals_are_found_where_they_count() {
    let source = "let a = \"tool.invoke\"; // \"tool.comment\"\n/// \"tool.doc\"\nf(\"x\", \"no action.\");\n#[cfg(test)]\n\"tool.test\"";
    let found = literals(source);
    assert!(found.contains("tool.invoke") && !found.contains("tool.doc") && !found.contains("tool.test"));
}

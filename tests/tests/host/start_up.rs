//! What a node says of a store that it can't use, and that it leaves it alone.

use std::{fs, path::Path};

use aesp_tests::{Host, soon};
use serde_json::Value;

struct Refusal {
    code: Option<i32>,
    said: String,
}

/// Starts the node, which must end by itself.
async fn start(host: &Host) -> Refusal {
    let mut node = host.command();
    node.args(["node", "--config"]).arg(host.folder().join("data/aesp.toml")).kill_on_drop(true);
    for listener in ["--listen-grpc", "--listen-https", "--listen-metrics"] {
        node.args([listener, "127.0.0.1:0"]);
    }
    let output = soon("the node gives up", node.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Refusal { code: output.status.code(), said }
}

impl Refusal {
    /// Returns the error that programs read, which comes last.
    fn error(&self) -> Value {
        let last = self.said.lines().last().unwrap_or_default();
        let told: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("no JSON: {}", self.said));
        told["error"].clone()
    }

    #[track_caller]
    fn says(&self, what: &str) {
        assert!(self.code.is_some_and(|code| code != 0), "it did not fail: {}", self.said);
        let error = self.error();
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(what), "it says: {message}");
        let next = error["next"].as_str().unwrap_or_default();
        assert!(!next.is_empty(), "it says no next step: {error}");
        assert!(!self.said.contains("panicked"), "{}", self.said);
    }
}

async fn stopped() -> Host {
    let mut host = Host::start().await.unwrap();
    host.process().stop().await.unwrap();
    host
}

fn data(host: &Host) -> std::path::PathBuf {
    host.folder().join("data/store/data.mdb")
}

/// Puts bytes in the place of the store; the node must refuse them and leave them as they are.
async fn refuses(host: &Host, bytes: &[u8], what: &str) {
    fs::write(data(host), bytes).unwrap();
    start(host).await.says(what);
    assert!(fs::read(data(host)).unwrap() == bytes, "what is in the store's place was changed");
}

#[tokio::test]
async fn a_damaged_store_is_told_and_left_as_it_is() {
    let mut host = stopped().await;
    let whole = fs::read(data(&host)).unwrap();
    refuses(&host, b"this is no store", "damaged").await;
    refuses(&host, &vec![b'x'; 1 << 20], "damaged").await;
    refuses(&host, &[0; 8_192], "damaged").await;
    refuses(&host, &whole[..whole.len() / 3 / 4_096 * 4_096], "damaged").await;
    fs::write(data(&host), &whole).unwrap();
    host.restart().await.expect("the store itself is as good as before");
}

fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(aside, other).unwrap();
}

#[tokio::test]
async fn the_store_of_another_host_is_not_opened_with_this_ones_key() {
    let (mut host, other) = (stopped().await, stopped().await);
    swap(&data(&host), &data(&other));
    let before = fs::read(data(&host)).unwrap();
    start(&host).await.says("master key");
    assert!(fs::read(data(&host)).unwrap() == before, "another's store was changed");
    swap(&data(&host), &data(&other));
    host.restart().await.expect("its own store opens");
}

#[tokio::test]
async fn a_missing_master_key_is_told_and_none_is_made() {
    let host = stopped().await;
    let key = host.folder().join("data/master.key");
    fs::remove_file(&key).unwrap();
    start(&host).await.says("master.key");
    assert!(!key.exists(), "a key that opens nothing was made");
    fs::write(&key, "no key").unwrap();
    start(&host).await.says("master");
}

#[tokio::test]
async fn an_unknown_key_of_the_configuration_is_told_by_file_and_line() {
    let host = stopped().await;
    let file = host.folder().join("data/aesp.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[limts]\ncalls_in_flight = 1\n")).unwrap();
    let refusal = start(&host).await;
    assert_eq!(refusal.code, Some(64));
    refusal.says("limts");
    assert!(refusal.error()["message"].as_str().unwrap().contains("aesp.toml:"), "{}", refusal.said);
    let mut check = host.command();
    let checked = check.args(["config", "check"]).output().await.unwrap();
    assert_eq!(checked.status.code(), Some(64));
}

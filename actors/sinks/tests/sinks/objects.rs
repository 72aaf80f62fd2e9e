//! On a folder, and on SeaweedFS, a real S3 server with an object lock.

use std::{fs, io::Read, path::Path, process::Command, time::Duration};

use aesp_sinks::{Config, Kind};
use flate2::read::GzDecoder;
use object_store::{
    aws::{AwsAuthorizer, AwsCredential},
    client::{HttpClient, HttpRequest, HttpResponse},
};
use serde_json::Value;

use crate::{
    fixture::{TENANT, World, sink, until},
    peers::{Peer, free_ports, program},
};

fn events(compressed: &[u8]) -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "gz") {
            all.push(path);
        }
    }
    all.sort();
    all
}

fn ids(folder: &Path) -> Vec<String> {
    let all = files(folder).into_iter().flat_map(|path| events(&fs::read(path).unwrap()));
    all.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenants_events_lie_in_files_of_its_own_in_their_order() {
    let world = World::new().await;
    let folder = world.folder.path().join("out");
    let other = world.tenant().await;
    let mut config = sink(Kind::Objects, format!("file://{}", folder.display()));
    config.batch_events = 10;
    let running = world.start(&[config], &[TENANT, other]).await;
    let (first, second) = (world.grow(&running, TENANT, 25).await, world.grow(&running, other, 15).await);
    until("all are written", async || running.sinks.own_report("soc").unwrap().taken == 40).await;
    assert_eq!(ids(&folder.join(TENANT.to_string())), first);
    assert_eq!(ids(&folder.join(other.to_string())), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_is_written_once() {
    let world = World::new().await;
    let folder = world.folder.path().join("out");
    let sent = world.log(TENANT, &["tool.a", "tool.b"]).await;
    for life in ["one", "two"] {
        // Another name has another cursor: the same events are sent again.
        let mut config = sink(Kind::Objects, format!("file://{}", folder.display()));
        config.name = life.into();
        let running = world.start(&[config], &[TENANT]).await;
        until("both are written", async || running.sinks.own_report(life).unwrap().taken == 2).await;
    }
    assert_eq!(files(&folder).len(), 1);
    assert_eq!(ids(&folder), sent.iter().map(ToString::to_string).collect::<Vec<_>>());
}

const ID: &str = "ak";
const SECRET: &str = "sksksksk";
const BUCKET: &str = "audit";

struct Seaweed {
    port: u16,
    _peer: Peer,
}

impl Seaweed {
    async fn start(world: &World) -> Option<Self> {
        let program = program("AESP_SEAWEED_BIN", "seaweed", "weed")?;
        let folder = world.folder.path();
        let identities = folder.join("s3.json");
        let identity = serde_json::json!({
            "name": "t",
            "credentials": [{ "accessKey": ID, "secretKey": SECRET }],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        });
        fs::write(&identities, serde_json::json!({ "identities": [identity] }).to_string()).unwrap();
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        let ports: [u16; 8] = free_ports();
        let mut command = Command::new(program);
        command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"]);
        command.arg(format!("-dir={}", data.display())).arg(format!("-s3.config={}", identities.display()));
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        for (name, pair) in ["s3", "master", "volume", "filer"].iter().zip(ports.chunks(2)) {
            command.arg(format!("-{name}.port={}", pair[0])).arg(format!("-{name}.port.grpc={}", pair[1]));
        }
        let server = Self { port: ports[0], _peer: Peer::start(&mut command, &folder.join("log")) };
        let lock = [("x-amz-bucket-object-lock-enabled", "true")];
        until("the bucket is made", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let made = server.request("PUT", &format!("/{BUCKET}"), &lock).await;
            made.is_some_and(|answer| answer.status().is_success())
        })
        .await;
        Some(server)
    }

    /// Sends a signed request of the test's own.
    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<HttpResponse> {
        let mut request = HttpRequest::new(Vec::new().into());
        *request.method_mut() = method.parse().unwrap();
        *request.uri_mut() = format!("http://127.0.0.1:{}{path}", self.port).parse().unwrap();
        for (name, value) in headers {
            let name: reqwest::header::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let credential = AwsCredential { key_id: ID.into(), secret_key: SECRET.into(), token: None };
        AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).unwrap();
        HttpClient::new(reqwest::Client::new()).execute(request).await.ok()
    }

    fn config(&self, world: &World, prefix: &str) -> Config {
        let target = format!("s3://{BUCKET}/{prefix}?endpoint=http://127.0.0.1:{}", self.port);
        let mut config = sink(Kind::Objects, target);
        config.user = ID.into();
        config.secret = Some(world.secret(SECRET).parse().unwrap());
        config
    }

    /// Returns the names of the objects below a prefix, by the listing's own XML.
    async fn names(&self, prefix: &str) -> Vec<String> {
        let listing = self.request("GET", &format!("/{BUCKET}/?list-type=2&prefix={prefix}"), &[]).await;
        let listing = listing.unwrap().into_body().bytes().await.unwrap();
        let text = String::from_utf8(listing.to_vec()).unwrap();
        let keys = text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        keys.filter(|key| key.ends_with(".gz")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_s3_objects_are_locked_and_hold_every_event() {
    let world = World::new().await;
    let Some(server) = Seaweed::start(&world).await else { return };
    let mut config = server.config(&world, "log");
    config.object_lock_days = 3;
    config.timeout_ms = 10_000;
    let running = world.start(&[config], &[TENANT]).await;
    let sent = world.grow(&running, TENANT, 20).await;
    until("all are written", async || running.sinks.own_report("soc").unwrap().taken >= 20).await;
    let names = server.names("log").await;
    let mut found = Vec::new();
    for name in &names {
        let object = server.request("GET", &format!("/{BUCKET}/{name}"), &[]).await.unwrap();
        let bytes = object.into_body().bytes().await.unwrap();
        found.extend(events(&bytes).iter().map(|event| event["event_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(found[..20], sent);
    let object = format!("/{BUCKET}/{}", names[0]);
    let head = server.request("HEAD", &object, &[]).await.unwrap();
    let header = |name: &str| head.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-amz-object-lock-mode"), "COMPLIANCE");
    let version = header("x-amz-version-id");
    let gone = server.request("DELETE", &format!("{object}?versionId={version}"), &[]).await.unwrap();
    assert!(gone.status().is_client_error(), "a locked object was deleted: {}", gone.status());
}

//! The platform log of real nodes before real witnesses, each a process of its own: a home that is killed, a store that is rolled back,
//! anchors that are changed.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use aesp_merkle::Checkpoint;
use aesp_sdk::{Client, Credentials, v1};
use aesp_tests::{Host, HostOptions, Process, Site, Trio, balanced, nodes, on_foundationdb, scrape, until};
use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use serde_json::Value;
use tokio::process::Command;

/// A witness with a folder of its own.
struct Witness {
    name: String,
    dir: PathBuf,
    key: String,
    address: String,
    process: Option<Process>,
}

impl Witness {
    async fn new(site: &Site, name: &str) -> Self {
        let dir = site.folder().join(name);
        let made = site
            .command()
            .args(["witness", "init", "--name", name, "--dir"])
            .arg(&dir)
            .output()
            .await
            .unwrap();
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        site.issue(&["node", name]).await.unwrap();
        let key = made["key"].as_str().unwrap().to_owned();
        Self { name: name.to_owned(), dir, key, address: "127.0.0.1:0".into(), process: None }
    }

    /// Serves, at the address that it had before.
    async fn start(&mut self, site: &Site, log: &str) {
        let pki = site.folder().join("data/pki");
        let mut command = Command::new(site.binary());
        command.args(["witness", "run", "--listen", &self.address, "--log", log, "--dir"]).arg(&self.dir);
        command.arg("--certificate").arg(pki.join(format!("{}.pem", self.name)));
        command.arg("--certificate-key").arg(pki.join(format!("{}.key", self.name)));
        let mut process = Process::start(command, &self.dir.join("log")).unwrap();
        let address = process.line("the witness listens", |line| {
            let entry: Value = serde_json::from_str(line).ok()?;
            entry["https"].as_str().map(str::to_owned)
        });
        self.address = address.await.unwrap();
        self.process = Some(process);
    }

    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    /// Returns what it remembers of the log.
    fn memory(&self, origin: &str) -> u64 {
        let memory: Value = serde_json::from_slice(&fs::read(self.dir.join("memory.json")).unwrap()).unwrap();
        memory[origin]["size"].as_u64().unwrap_or_default()
    }

    fn section(&self, ca: &Path) -> String {
        format!(
            "\n[[audit.witness]]\nname = \"{}\"\nurl = \"https://localhost:{}\"\nkey = \"{}\"\nca = \"{}\"\n",
            self.name,
            self.port(),
            self.key,
            ca.display()
        )
    }
}

fn append(site: &Site, text: &str) {
    let mut config = fs::OpenOptions::new().append(true).open(site.config()).unwrap();
    config.write_all(text.as_bytes()).unwrap();
}

async fn platform_log(client: &Client) -> anyhow::Result<v1::PlatformLog> {
    Ok(client.platform_log().get_platform_log(v1::GetPlatformLogRequest::default()).await?.into_inner())
}

async fn witnesses(client: &Client) -> anyhow::Result<v1::ListWitnessesResponse> {
    Ok(client.platform_log().list_witnesses(v1::ListWitnessesRequest {}).await?.into_inner())
}

async fn log_key(client: &Client) -> String {
    let keys = client.audit().get_log_keys(v1::GetLogKeysRequest::default()).await.unwrap().into_inner().keys;
    HEXLOWER.encode(&keys[0].public_key)
}

async fn events(client: &Client, action: &str) -> anyhow::Result<Vec<v1::AuditEvent>> {
    let query = v1::QueryEventsRequest { action: action.into(), ..Default::default() };
    Ok(client.audit().query_events(query).await?.into_inner().events)
}

/// Adds an event to the log of the client's tenant.
async fn report(client: &Client) {
    let mut event = v1::AuditEvent { action: "door.open".into(), ..Default::default() };
    event.set_event_type(v1::EventType::SystemEvent);
    event.set_outcome(v1::Outcome::Success);
    client.audit().log_event(v1::LogEventRequest { event: Some(event) }).await.unwrap();
}

/// Waits until so many witnesses have cosigned more than `size` leaves, and none is in the way.
async fn cosigned_beyond(client: &Client, size: u64) -> u64 {
    until("the witnesses cosign", async || {
        report(client).await;
        let listed = witnesses(client).await?;
        let known =
            || listed.witnesses.iter().map(|one| (&one.name, one.size, &one.trouble, &one.contradiction));
        ensure!(
            listed.cosigned_size > size,
            "{} cosigned, {:?}",
            listed.cosigned_size,
            known().collect::<Vec<_>>()
        );
        for (name, seen, _, contradiction) in known() {
            ensure!(contradiction.is_empty() && seen > size, "{name}: {seen} {contradiction}");
        }
        Ok(listed.cosigned_size)
    })
    .await
    .unwrap()
}

async fn aesp(host: &Host, tenant: &str, arguments: &[&str]) -> (Option<Value>, String) {
    let mut command = host.command();
    command
        .env("AESP_API_KEY", host.administrator_key())
        .args(["--output", "json", "--tenant", tenant, "audit"]);
    let output = command.args(arguments).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success()), errors)
}

#[tokio::test]
async fn two_witnesses_see_one_history_though_the_home_is_killed_and_one_of_them_is_away() {
    let mut trio = Trio::new().await.unwrap();
    let log =
        until("there is a platform log", async || platform_log(&trio.administrator).await).await.unwrap();
    let mut own = [Witness::new(&trio.site, "w1").await, Witness::new(&trio.site, "w2").await];
    for witness in &mut own {
        witness.start(&trio.site, &log.log_key).await;
    }
    append(&trio.site, "\n[audit]\nwitness_quorum = 2\n");
    for witness in &own {
        append(&trio.site, &witness.section(&trio.site.ca()));
    }
    for node in &mut trio.nodes {
        node.process().stop().await.unwrap();
        node.restart().await.unwrap();
    }
    balanced(&trio.administrator, 3).await.unwrap();
    let first = cosigned_beyond(&trio.administrator, 0).await;

    // The home dies; the next one goes on in the same log, and the witnesses cosign on.
    let mut home = None;
    for node in &trio.nodes {
        if scrape(node, "aesp_platform_log_size").await.unwrap() > 0.0 {
            home = node.name().map(str::to_owned);
        }
    }
    let node =
        trio.nodes.iter_mut().find(|node| node.name() == home.as_deref()).expect("somebody is the home");
    node.process().kill().await.unwrap();
    until("two are left", async || {
        ensure!(nodes(&trio.administrator).await?.len() == 2);
        Ok(())
    })
    .await
    .unwrap();
    let second = cosigned_beyond(&trio.administrator, first).await;
    assert_eq!(platform_log(&trio.administrator).await.unwrap().origin, log.origin);

    // A witness that is away delays only itself: the other goes on, and the quorum is missed on record.
    own[1].kill().await;
    until("the other goes on", async || {
        report(&trio.administrator).await;
        let listed = witnesses(&trio.administrator).await?;
        let of =
            |name: &str| listed.witnesses.iter().find(|one| one.name == name).context("is listed").cloned();
        ensure!(of("w1")?.size > second + 3, "w1 is at {}", of("w1")?.size);
        ensure!(of("w2")?.cause == "unreachable", "{:?}", of("w2")?);
        ensure!(!events(&trio.administrator, "witness.quorum_lost").await?.is_empty(), "no quorum is missed");
        Ok(())
    })
    .await
    .unwrap();
    own[1].start(&trio.site, &log.log_key).await;
    cosigned_beyond(&trio.administrator, second + 3).await;
    until("the quorum is back on record", async || {
        ensure!(!events(&trio.administrator, "witness.quorum_regained").await?.is_empty());
        Ok(())
    })
    .await
    .unwrap();

    // Whoever has the log's key and those of the witnesses believes nobody else.
    let key = log_key(&trio.administrator).await;
    let host = trio.nodes.iter().find(|node| node.name() != home.as_deref()).unwrap();
    let trusted = ["--log-key", &key, "--witness", &own[0].key, "--witness", &own[1].key];
    let acme = trio.acme.id().to_owned();
    let proof = until("the tenant's head is cosigned", async || {
        let (proof, errors) = aesp(host, &acme, &[&["head-proof"], &trusted[..]].concat()).await;
        proof.context(errors)
    });
    let proof = proof.await.unwrap();
    assert!(!proof.to_string().contains(&acme), "the proof names no tenant: {proof}");
    let path = host.folder().join("proof.json");
    fs::write(&path, proof.to_string()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    let (again, errors) =
        aesp(host, &acme, &[&["head-proof", "--offline", &path], &trusted[..]].concat()).await;
    assert!(again.is_some(), "{errors}");
    let other = Witness::new(&trio.site, "w3").await;
    let arguments = ["head-proof", "--offline", &path, "--log-key", &key, "--witness", &other.key];
    let (again, errors) = aesp(host, &acme, &arguments).await;
    assert!(again.is_none() && errors.contains("0 of the witnesses"), "{errors}");
    fs::write(&path, proof.to_string().replacen("\"leaf_index\":", "\"leaf_index\":1", 1)).unwrap();
    let (again, errors) =
        aesp(host, &acme, &[&["head-proof", "--offline", &path], &trusted[..]].concat()).await;
    assert!(again.is_none() && errors.contains("proves nothing"), "{errors}");

    // The checkpoint and the tiles are there for whoever is known.
    let get = async |path: &str, token: Option<&str>| {
        let answer = until("there is an answer", async || host.get(path, token).await).await.unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        (text.split(' ').nth(1).unwrap().parse::<u16>().unwrap(), text)
    };
    assert_eq!(get("/audit/platform/checkpoint", None).await.0, 401);
    let login = v1::AuthenticateServiceAccountRequest { api_key: host.administrator_key().to_owned() };
    let token = trio.administrator.authentication().authenticate_service_account(login).await.unwrap();
    let token = token.into_inner().access_token;
    let (status, text) = get("/audit/platform/checkpoint", Some(&token)).await;
    let note = text.split("\r\n\r\n").nth(1).unwrap();
    assert!(status == 200 && Checkpoint::glance(note).unwrap().origin == log.origin, "{text}");
    assert_eq!(get("/audit/platform/tile/entries/000.p/1", Some(&token)).await.0, 200);
    assert_eq!(get("/audit/platform/tile/7/000.p/1", Some(&token)).await.0, 404);
}

/// Starts a Host with one witness, and with anchors if there is a folder for them.
async fn witnessed(anchors: bool) -> (Host, Client, Witness, v1::PlatformLog) {
    let mut host = Host::with(HostOptions::default()).await.unwrap();
    let client = host.client(Credentials::ApiKey(host.administrator_key().into())).unwrap();
    let log = until("there is a platform log", async || platform_log(&client).await).await.unwrap();
    let mut witness = Witness::new(host.site(), "w1").await;
    witness.start(host.site(), &log.log_key).await;
    append(host.site(), "\n[audit]\nwitness_quorum = 1\n");
    append(host.site(), &witness.section(&host.site().ca()));
    if anchors {
        let folder = host.folder().join("anchors");
        append(
            host.site(),
            &format!("\n[audit.anchor]\nevery_seconds = 1\ntarget = \"file://{}\"\n", folder.display()),
        );
    }
    host.process().stop().await.unwrap();
    host.restart().await.unwrap();
    (host, client, witness, log)
}

#[tokio::test]
async fn a_store_that_was_rolled_back_is_refused_by_the_witness_and_the_record_says_so() {
    if on_foundationdb() {
        // Rolling back a whole FoundationDB cluster is another test's: here files are copied.
        return;
    }
    let (mut host, client, witness, log) = witnessed(false).await;
    let before = cosigned_beyond(&client, 0).await;
    host.process().stop().await.unwrap();
    let (store, copy) = (host.folder().join("data/store"), host.folder().join("copy"));
    copy_folder(&store, &copy);
    host.restart().await.unwrap();
    cosigned_beyond(&client, before + 5).await;
    let remembered = witness.memory(&log.origin);

    // Whoever owns the machine and every key puts the older store back.
    host.process().stop().await.unwrap();
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store);
    host.restart().await.unwrap();
    let why = until("the witness contradicts", async || {
        report(&client).await;
        let listed = witnesses(&client).await?.witnesses;
        ensure!(!listed[0].contradiction.is_empty(), "{listed:?}");
        Ok(listed[0].contradiction.clone())
    })
    .await
    .unwrap();
    assert!(why.contains("rolled back") || why.contains("rewritten"), "{why}");
    let told = events(&client, "witness.contradicted").await.unwrap();
    assert_eq!((told.len(), told[0].resource.as_str()), (1, "witness:w1"));
    assert!(told[0].reason == why && told[0].risk_score >= 0.9, "{:?}", told[0]);
    assert_eq!(witness.memory(&log.origin), remembered, "the witness goes on from what it saw");
    until("the metrics show it", async || {
        ensure!(scrape(&host, "aesp_witness_contradicts").await? > 0.0);
        Ok(())
    })
    .await
    .unwrap();

    // An operator who resets it without a reason learns the same again.
    let (reset, errors) = aesp(&host, "", &["reset-witness", "w1"]).await;
    assert!(reset.is_some(), "{errors}");
    until("it contradicts again", async || {
        report(&client).await;
        ensure!(events(&client, "witness.contradicted").await?.len() == 2);
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(witness.memory(&log.origin), remembered);
    let (reset, errors) = aesp(&host, "", &["reset-witness", "nobody"]).await;
    assert!(reset.is_none() && errors.contains("NOT_FOUND"), "{errors}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let into = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &into);
        } else {
            fs::copy(entry.path(), into).unwrap();
        }
    }
}

#[tokio::test]
async fn anchors_are_written_told_and_checked_and_the_first_that_does_not_fit_is_named() {
    let (host, client, witness, _) = witnessed(true).await;
    let told = until("three checkpoints are anchored", async || {
        report(&client).await;
        let told = events(&client, "log.anchored").await?;
        ensure!(told.len() >= 3, "{} are", told.len());
        Ok(told)
    });
    let told = told.await.unwrap();
    // The event itself carries the signed checkpoint to wherever events are sent.
    assert!(told[0].metadata["checkpoint"].contains("\u{2014} w1 "), "{:?}", told[0].metadata);
    let folder = host.folder().join("anchors");
    let from = format!("file://{}", folder.display());
    let key = log_key(&client).await;
    let verify = async |arguments: &[&str]| {
        let all =
            [&["verify-anchors", "--from", &from, "--log-key", &key, "--witness", &witness.key], arguments]
                .concat();
        aesp(&host, "", &all).await
    };
    let (report, errors) = verify(&[]).await;
    let report = report.unwrap_or_else(|| panic!("{errors}"));
    assert!(report["anchors"].as_u64().unwrap() >= 3 && report["trusted"] == true, "{report}");

    // One anchor is changed.
    let log = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut files: Vec<PathBuf> = fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let good = fs::read_to_string(&files[1]).unwrap();
    fs::write(&files[1], good.replacen("\n\n", "\nmore\n\n", 1)).unwrap();
    let name = files[1].file_name().unwrap().to_str().unwrap().to_owned();
    let (report, errors) = verify(&[]).await;
    assert!(report.is_none() && errors.contains(&name) && errors.contains("not signed"), "{errors}");
    // One is put into another's place.
    fs::copy(&files[0], &files[1]).unwrap();
    let (report, errors) = verify(&[]).await;
    assert!(report.is_none() && errors.contains(&name) && errors.contains("its name"), "{errors}");
    fs::write(&files[1], good).unwrap();
    let (report, errors) = verify(&[]).await;
    assert!(report.is_some(), "{errors}");
}

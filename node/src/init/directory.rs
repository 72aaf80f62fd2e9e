use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::{Clock, Entropy};
use anyhow::Context;

use super::{Authority, Subject, files};
use crate::{Config, cluster, config, wiring};

const NODE_LIFE: Duration = Duration::from_secs(397 * 86_400);
pub(super) const SECRET_FILE: &str = "cluster.secret";

/// What a data directory is made for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Must not exist, or be empty.
    pub(crate) data_dir: PathBuf,
    pub(crate) node_name: Option<String>,
    /// Further names and addresses of the node, for its certificate.
    pub(crate) names: Vec<String>,
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    /// Where other nodes reach it; makes it the first node of a cluster.
    pub(crate) peers: Option<SocketAddr>,
    /// Where the store is, as `store.path` says it; absent for LMDB in the data directory.
    pub(crate) store: Option<String>,
    /// Further keys of the configuration, as `SECTION.KEY` and value.
    pub(crate) set: Vec<(String, String)>,
}

/// A data directory that was made.
pub(crate) struct Made {
    pub(crate) config: PathBuf,
    pub(crate) ca: PathBuf,
    /// Shown once, stored nowhere.
    pub(crate) api_key: String,
}

/// Makes a data directory, wholly or not at all.
///
/// # Errors
/// When there is something in its place, or a part can't be made.
pub(crate) async fn make(wanted: &Wanted, clock: &dyn Clock, entropy: &Entropy) -> anyhow::Result<Made> {
    ensure_free(&wanted.data_dir)?;
    let parent = wanted.data_dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
    let draft = parent.join(format!(".aesp-init-{:08x}", entropy.below(1 << 32)));
    let filled = Box::pin(fill(&draft, wanted, clock, entropy)).await;
    let moved = filled.and_then(|api_key| {
        // An empty folder may be there; anything else makes this fail.
        fs::rename(&draft, &wanted.data_dir)
            .with_context(|| format!("can't make {}", wanted.data_dir.display()))?;
        Ok(api_key)
    });
    match moved {
        Ok(api_key) => Ok(Made {
            config: wanted.data_dir.join("aesp.toml"),
            ca: wanted.data_dir.join("pki/ca.pem"),
            api_key,
        }),
        Err(error) => {
            if let Err(left) = fs::remove_dir_all(&draft) {
                tracing::warn!(folder = %draft.display(), error = %left, "an unfinished folder is left");
            }
            Err(error)
        }
    }
}

/// # Errors
/// When there is anything at the place.
pub(crate) fn ensure_free(data_dir: &Path) -> anyhow::Result<()> {
    let free = match fs::read_dir(data_dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    anyhow::ensure!(free, "{} exists already; nothing was changed", data_dir.display());
    Ok(())
}

async fn fill(
    folder: &Path,
    wanted: &Wanted,
    clock: &dyn Clock,
    entropy: &Entropy,
) -> anyhow::Result<String> {
    files::private_folder(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let pki = folder.join("pki");
    files::private_folder(&pki)?;

    let authority = Authority::create(&pki, clock.now(), entropy)?;
    let made = configuration(wanted);
    authority.issue(&Subject::server(&wanted.names), "server", &pki, clock.now(), NODE_LIFE)?;
    let node = Subject::node(&made.node.name, &wanted.names);
    authority.issue(&node, "node", &pki, clock.now(), NODE_LIFE)?;
    files::private(&folder.join(SECRET_FILE), cluster::fresh_secret()?)?;

    let file = folder.join("aesp.toml");
    let mut text = toml::to_string(&made)?;
    if !wanted.set.is_empty() {
        let mut table: toml::Table = toml::from_str(&text)?;
        for (key, value) in &wanted.set {
            assign(&mut table, key, value)?;
        }
        text = toml::to_string(&table)?;
    }
    files::private(
        &file,
        format!("# Made by aesp init. `aesp config default` explains every key.\n\n{text}"),
    )?;
    let sources = config::Sources { file: Some(file), ..Default::default() };
    Box::pin(wiring::first_administrator(&config::load(&sources)?)).await
}

/// Sets a key to a text, or to a number where there is one.
fn assign(table: &mut toml::Table, key: &str, value: &str) -> anyhow::Result<()> {
    let (section, name) =
        key.rsplit_once('.').context("a key is SECTION.KEY, for example store.fdb.prefix")?;
    let mut table = table;
    for part in section.split('.') {
        let inner = table.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        table = inner.as_table_mut().with_context(|| format!("{part} of {key} is no section"))?;
    }
    let value = match table.get(name) {
        Some(toml::Value::Integer(_)) => value.parse().map(toml::Value::Integer)?,
        _ => toml::Value::String(value.to_owned()),
    };
    table.insert(name.to_owned(), value);
    Ok(())
}

/// Returns the configuration: its paths are seen from its own folder, so that the folder can be moved.
fn configuration(wanted: &Wanted) -> Config {
    let mut config = Config::default();
    config.node.data_dir = ".".into();
    config.store.path = wanted.store.clone().unwrap_or_else(|| "lmdb:store".into());
    config.keys.master_key_file = "master.key".into();
    config.tls = config::Tls {
        certificate: "pki/server.pem".into(),
        key: "pki/server.key".into(),
        client_ca: "pki/ca.pem".into(),
        crls: vec!["pki/ca.crl".into()],
    };
    if let Some(name) = &wanted.node_name {
        config.node.name.clone_from(name);
    }
    config.listen.grpc = wanted.grpc.unwrap_or(config.listen.grpc);
    config.listen.https = wanted.https.unwrap_or(config.listen.https);
    config.listen.metrics = wanted.metrics.unwrap_or(config.listen.metrics);
    if let Some(peers) = wanted.peers {
        config.listen.peers = peers;
        config.cluster = Some(config::Cluster {
            secret_file: SECRET_FILE.into(),
            certificate: Some("pki/node.pem".into()),
            key: Some("pki/node.key".into()),
            ..Default::default()
        });
    }
    config
}

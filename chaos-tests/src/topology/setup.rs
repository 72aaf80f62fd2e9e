//! What happens before the first node starts: data directory, certificates, configuration files.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use aesp_tests::{
    Certificate,
    command::{issued, json_of, text},
    store_flags,
};
use anyhow::{Context, ensure};
use tokio::{process::Command, task::block_in_place};

use super::{
    Shape, clock_library,
    config::{Base, Listens, Membership},
    disk::Disk,
    network::Network,
    no_failing_syncs,
    node::Node,
    preload::{FakeClock, Syncs, joined},
};
use crate::faulty::ORDERS;

/// How long a node that ends in order waits for its calls, which take milliseconds.
const DRAIN_SECONDS: i64 = 5;

/// A data directory and the nodes that will share it.
pub(super) struct Made {
    pub(super) nodes: Vec<Node>,
    pub(super) clocks: Vec<FakeClock>,
    pub(super) disk: Option<Disk>,
    pub(super) ca: PathBuf,
    pub(super) api_key: String,
}

/// Makes everything below `folder`.
///
/// # Errors
/// When a step fails, with what the command said.
pub(super) async fn initialise(
    binary: &Path,
    folder: &Path,
    shape: &Shape,
    network: Option<&Network>,
) -> anyhow::Result<Made> {
    let data = folder.join("data");
    let mut init = Command::new(binary);
    init.args(["init", "--output", "json", "--name", "node-1", "--data-dir"]).arg(&data);
    for listener in ["--listen-grpc", "--listen-https", "--listen-metrics"] {
        init.args([listener, "127.0.0.1:0"]);
    }
    for node in
        network.into_iter().flat_map(|network| (0..shape.nodes).map(|node| network.address(Some(node))))
    {
        init.args(["--host", &node.to_string()]);
    }
    init.args(store_flags());
    let made = json_of(init).await?;

    let mut base = Base::read(&data)?;
    base.set("log", "level", "warn,aesp_node=info");
    base.set("limits", "drain_seconds", DRAIN_SECONDS);
    let disk = match shape.disk_mib {
        Some(mib) => Some(block_in_place(|| small_disk(folder, mib, &mut base))?),
        None => None,
    };
    let clocks = match shape.clocks {
        true => (0..shape.nodes)
            .map(|node| Ok(FakeClock::new(clock_library()?, folder.join(format!("clock-{}", node + 1)))?))
            .collect::<anyhow::Result<Vec<_>>>()?,
        false => Vec::new(),
    };
    let mut nodes = Vec::new();
    for (n, (config, addresses)) in
        configurations(binary, folder, shape, network, &base).await?.into_iter().enumerate()
    {
        let name = format!("node-{}", n + 1);
        let orders = shape.faulty.then(|| folder.join(format!("orders-{name}.json")));
        let syncs = match shape.failing_syncs {
            true => Some(
                Syncs::find(folder.join(format!("fiu-{name}")))
                    .context(no_failing_syncs().unwrap_or_default())?,
            ),
            false => None,
        };
        let told = orders.iter().map(|file| (ORDERS.to_owned(), file.display().to_string()));
        let clock = clocks.get(n).map(FakeClock::variables).unwrap_or_default();
        let variables = joined(clock.into_iter().chain(syncs.iter().flat_map(Syncs::variables)).chain(told));
        nodes.push(Node {
            config,
            addresses,
            prefix: network.map(|network| network.prefix(n)).unwrap_or_default(),
            variables,
            orders,
            syncs,
            log: folder.join(format!("{name}.log")),
            name,
            process: None,
        });
    }
    let api_key = text(&made, "administrator_api_key")?;
    Ok(Made { nodes, clocks, disk, ca: data.join("pki/ca.pem"), api_key })
}

/// Writes a configuration file for each node; returns them with where the nodes are to listen.
async fn configurations(
    binary: &Path,
    folder: &Path,
    shape: &Shape,
    network: Option<&Network>,
    base: &Base,
) -> anyhow::Result<Vec<(PathBuf, [SocketAddr; 3])>> {
    if shape.nodes == 1 {
        let Listens { grpc, https, metrics, .. } = match network {
            Some(network) => Listens::alone_on(network.address(Some(0))),
            None => Listens::on_loopback()?,
        };
        return Ok(vec![(base.lone()?, [grpc, https, metrics])]);
    }
    let mut listens = Vec::new();
    for node in 0..shape.nodes {
        listens.push(match network {
            Some(network) => Listens::alone_on(network.address(Some(node))),
            None => Listens::on_loopback()?,
        });
    }
    let seeds: Vec<SocketAddr> = listens.iter().map(|listens| listens.peers).collect();
    let mut files = Vec::new();
    for (n, listens) in listens.into_iter().enumerate() {
        let name = format!("node-{}", n + 1);
        let identity = match n == 0 && base.has_identity() {
            true => None,
            false => Some(node_certificate(binary, folder, &name, listens.peers.ip()).await?),
        };
        let membership = Membership { name: &name, listens, seeds: &seeds, identity, lease: shape.lease };
        files.push((base.member(&membership)?, [listens.grpc, listens.https, listens.metrics]));
    }
    Ok(files)
}

/// Moves the store onto a disk of its own.
fn small_disk(folder: &Path, mib: u32, base: &mut Base) -> anyhow::Result<Disk> {
    let disk = Disk::mount(folder.join("disk"), mib)?;
    let (from, to) = (folder.join("data/store"), disk.path().join("store"));
    let mut copy = std::process::Command::new("cp");
    let output = copy.args(["-a", "--sparse=always"]).arg(&from).arg(&to).output()?;
    ensure!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr).trim());
    base.set("store", "path", format!("lmdb:{}", to.display()));
    Ok(disk)
}

/// Has a member's certificate issued; returns it with its key.
async fn node_certificate(
    binary: &Path,
    folder: &Path,
    name: &str,
    address: IpAddr,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let mut issue = aesp(binary, folder);
    issue.args(["pki", "node", name, "--host", &address.to_string()]);
    let issued = issued(issue).await?;
    Ok((issued.certificate, issued.key))
}

/// Has a Runtime's certificate issued.
///
/// # Errors
/// When the command fails.
pub(super) async fn issue(binary: &Path, folder: &Path, runtime_id: &str) -> anyhow::Result<Certificate> {
    let mut issue = aesp(binary, folder);
    issue.args(["pki", "issue", "--name", runtime_id, "--runtime", runtime_id]);
    issued(issue).await
}

fn aesp(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env("AESP_CONFIG", folder.join("data/aesp.toml"))
        .env("AESP_PROFILE", folder.join("no-profile.toml"))
        .env("AESP_OUTPUT", "json");
    command
}

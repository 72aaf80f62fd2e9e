//! Real processes: one node, or three on one lmdb environment or FoundationDB cluster, and Runtimes.

mod config;
mod disk;
mod network;
mod node;
pub(crate) mod preload;
mod setup;
mod worker;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_sdk::{
    Endpoint,
    v1::{RegisterRuntimeRequest, RuntimeRegistration},
};
use aesp_tests::{Certificate, aesp_binary, on_foundationdb, program_beside};
use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};

use self::{disk::Disk, network::Network, preload::FakeClock};
pub(crate) use self::{
    network::{Weather, no_filters, no_namespaces},
    node::Node,
    worker::Worker,
};
use crate::{access::Access, evidence::Traces, workload::Ground};

const PAUSE: Duration = Duration::from_millis(50);
/// How long Runtimes may take to be served again when nothing is broken any more.
const RECONNECT: Duration = Duration::from_secs(30);
const REGISTER_AT_ONCE: usize = 32;

/// What is to be built.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) nodes: usize,
    /// The node that each Runtime connects to first.
    pub(crate) workers: Vec<usize>,
    /// So many further Runtimes, in one process.
    pub(crate) storm: usize,
    /// Whether the nodes' wall clocks can be set.
    pub(crate) clocks: bool,
    /// The size of the disk that the store has for itself.
    pub(crate) disk_mib: Option<u32>,
    /// Whether the nodes are of the program whose store and actors break when told.
    pub(crate) faulty: bool,
    /// Whether the nodes' syncs can be made to fail.
    pub(crate) failing_syncs: bool,
    /// Whether each node has a network namespace of its own.
    pub(crate) network: bool,
    /// Whether packets can be lost and delayed there.
    pub(crate) filters: bool,
    pub(crate) lease: Duration,
}

/// A cluster and its Runtimes. Dropping it kills them.
pub(crate) struct Topology {
    // Dropped in this order: processes first, what they stand on last.
    pub(crate) nodes: Vec<Node>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) clocks: Vec<FakeClock>,
    pub(crate) network: Option<Network>,
    pub(crate) disk: Option<Disk>,
    access: Access,
    /// The program that the nodes are of.
    program: PathBuf,
    shape: Shape,
    folder: TempDir,
}

impl Topology {
    /// Builds it and starts the nodes. Runtimes come with [`Topology::employ`].
    ///
    /// # Errors
    /// When a step fails, with what the process said.
    pub(crate) async fn start(shape: Shape) -> anyhow::Result<Self> {
        let binary = aesp_binary()?;
        let program = match shape.faulty {
            true => faulty_binary()?,
            false => binary.clone(),
        };
        let folder = tempfile::Builder::new().prefix("aesp-chaos-").tempdir()?;
        let network = match shape.network {
            true => Some(block_in_place(|| Network::up(shape.nodes))?),
            false => None,
        };
        let made = setup::initialise(&binary, folder.path(), &shape, network.as_ref()).await?;
        let access = Access { endpoints: Vec::new(), ca: made.ca, api_key: made.api_key, binary };
        let mut topology = Self {
            nodes: made.nodes,
            workers: Vec::new(),
            clocks: made.clocks,
            network,
            disk: made.disk,
            access,
            program,
            shape,
            folder,
        };
        for node in &mut topology.nodes {
            node.start(&topology.program).await?;
        }
        let endpoint = |node: &Node| -> anyhow::Result<Endpoint> {
            let address = node.grpc();
            // The certificate names localhost and every address that was given to `aesp init`.
            let host =
                if address.ip().is_loopback() { "localhost".to_owned() } else { address.ip().to_string() };
            Ok(format!("https://{host}:{}", address.port()).parse()?)
        };
        topology.access.endpoints = topology.nodes.iter().map(endpoint).collect::<anyhow::Result<_>>()?;
        Ok(topology)
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Returns the folder with everything that was stored and logged.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the folder when everything else is gone.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }

    /// Registers and starts the Runtimes, and waits until they serve.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) async fn employ(&mut self, ground: &Ground) -> anyhow::Result<()> {
        self.traces().make()?;
        for (n, node) in self.shape.workers.clone().into_iter().enumerate() {
            self.hire(ground, format!("worker-{}", n + 1), node, 1).await?;
        }
        if self.shape.storm > 0 {
            self.hire(ground, "storm".into(), 0, self.shape.storm).await?;
        }
        self.all_serve().await
    }

    fn traces(&self) -> Traces {
        // What is chosen by the seed is chosen elsewhere.
        Traces::in_folder(self.folder(), 0)
    }

    async fn hire(&mut self, ground: &Ground, id: String, node: usize, count: usize) -> anyhow::Result<()> {
        let certificate = setup::issue(&self.access.binary, self.folder.path(), &id).await?;
        // Of the many one tenant is enough.
        let tenants = if count == 1 { ground.tenants().to_vec() } else { vec![ground.tenant.id()] };
        register(&self.access, &tenants, &id, &certificate.identity, count).await?;
        let traces = self.traces();
        let mut endpoints = self.access.endpoints.clone();
        let by = node % endpoints.len();
        endpoints.rotate_left(by);
        let mut worker = Worker {
            effects: traces.effects.join(&id),
            visits: traces.visits.join(&id),
            log: self.folder.path().join(format!("{id}.log")),
            ca: self.access.ca.clone(),
            id,
            certificate,
            endpoints,
            count,
            process: None,
        };
        worker.start()?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a node that is down; one that is up stays as it is.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn raise(&mut self, node: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[node];
        if node.is_down() {
            node.start(&self.program).await?;
        }
        Ok(())
    }

    /// Undoes every fault and waits until all nodes are up and all Runtimes serve.
    ///
    /// # Errors
    /// When something stays broken.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<()> {
        if let Some(network) = &mut self.network {
            block_in_place(|| network.mend())?;
            network.better().await?;
        }
        for node in &mut self.nodes {
            block_in_place(|| node.mend())?;
        }
        for clock in &self.clocks {
            clock.step(0)?;
        }
        for node in &self.nodes {
            node.thaw();
        }
        for worker in &self.workers {
            worker.thaw();
        }
        for node in 0..self.nodes.len() {
            self.raise(node).await?;
        }
        for worker in &mut self.workers {
            if worker.is_down() {
                worker.start()?;
            }
        }
        self.all_serve().await
    }

    /// Waits until every Runtime serves.
    ///
    /// # Errors
    /// When one does not within half a minute.
    pub(crate) async fn all_serve(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while let Some(late) = self.workers.iter().find(|worker| !worker.serves_all()) {
            ensure!(
                begun.elapsed() < RECONNECT,
                "{} of {} serve at {}: {}",
                late.serving(),
                late.count,
                late.id(),
                late.last_words()
            );
            sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Starts a Runtime of this machine for a cluster that is elsewhere.
///
/// # Errors
/// When it does not serve.
pub(crate) async fn attach(
    access: &Access,
    ground: &Ground,
    certificate: Certificate,
    folder: &Path,
) -> anyhow::Result<Worker> {
    let id = format!("chaos-{}", ground.tenant.name());
    register(access, &ground.tenants(), &id, &certificate.identity, 1).await?;
    let traces = Traces::in_folder(folder, 0);
    traces.make()?;
    let mut worker = Worker {
        effects: traces.effects.join(&id),
        visits: traces.visits.join(&id),
        log: folder.join(format!("{id}.log")),
        ca: access.ca.clone(),
        id,
        certificate,
        endpoints: access.endpoints.clone(),
        count: 1,
        process: None,
    };
    worker.start()?;
    let begun = Instant::now();
    while !worker.serves_all() {
        ensure!(begun.elapsed() < RECONNECT, "the Runtime does not serve: {}", worker.last_words());
        sleep(PAUSE).await;
    }
    Ok(worker)
}

/// Registers the ids of a worker for tenants, all with one certificate.
async fn register(
    access: &Access,
    tenants: &[&str],
    id: &str,
    identity: &str,
    count: usize,
) -> anyhow::Result<()> {
    let administrator = access.administrator()?;
    let ids = (0..count).map(|n| if count == 1 { id.to_owned() } else { format!("{id}-{n}") });
    let registered = ids.map(async |runtime_id| -> anyhow::Result<RuntimeRegistration> {
        let request = RegisterRuntimeRequest {
            runtime_id,
            certificate_identity: identity.to_owned(),
            tenant_ids: tenants.iter().map(|&tenant| tenant.to_owned()).collect(),
            contracts: vec!["*".into()],
            security_zones: Vec::new(),
        };
        let answer = administrator.runtimes().register_runtime(request).await;
        Ok(answer.map_err(|status| aesp_sdk::Error::from_status(&status))?.into_inner())
    });
    let all: Vec<_> = stream::iter(registered).buffer_unordered(REGISTER_AT_ONCE).try_collect().await?;
    ensure!(all.len() == count, "only {} of {count} Runtimes are registered", all.len());
    Ok(())
}

/// Tells whether this process is root, which mounts and namespaces need.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Tells why what is done to the store's disk, or to the network around it, can't be done, if so.
pub(crate) fn no_own_store() -> Option<String> {
    on_foundationdb().then(|| {
        "AESP_TEST_STORE puts the store onto FoundationDB's servers, which this neither breaks nor moves"
            .to_owned()
    })
}

/// Tells why there can be no disk for the store alone, if so.
pub(crate) fn no_disk() -> Option<String> {
    (!is_root()).then(|| "a small disk is mounted for the store, which needs root".to_owned())
}

/// Tells why syncs can't be made to fail, if so.
pub(crate) fn no_failing_syncs() -> Option<String> {
    let missing = preload::Syncs::find(PathBuf::new()).is_none();
    missing.then(|| "there is no libfiu: run scripts/install-fault-tools".to_owned())
}

/// Tells why stores and actors can't be made to break, if so.
pub(crate) fn no_orders() -> Option<String> {
    faulty_binary().err().map(|error| format!("{error:#}"))
}

/// The node that breaks when told.
fn faulty_binary() -> anyhow::Result<PathBuf> {
    program_beside("aesp-faulty", "cargo build -p aesp-chaos-tests --bins")
}

/// Tells why clocks can't be set, if so.
pub(crate) fn no_clocks() -> Option<String> {
    preload::faketime()
        .is_none()
        .then(|| "there is no libfaketime: run scripts/install-fault-tools".to_owned())
}

/// The library of clocks, for those who found that it is there.
fn clock_library() -> anyhow::Result<PathBuf> {
    preload::faketime().context("there is no libfaketime: run scripts/install-fault-tools")
}

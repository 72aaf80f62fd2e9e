use std::{net::SocketAddr, sync::Arc};

use aesp_cluster::{
    Cluster, Links, MemberState, ObserveRefusals, gossip,
    gossip::{Announcement, Gossip},
    peer::{self, LiveTls, PeerService, Peers},
};
use aesp_proto::{Clock, Entropy};
use prometheus::Registry;
use tokio::net::{TcpListener, lookup_host};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::{Error, Others, Witness, follow::Follow, listen, read_secrets};
use crate::{Config, config, tls};

/// What a link carries beside one whole message of a client.
const ENVELOPE_BYTES: usize = 1 << 20;

/// What a member of a cluster brings, checked and bound before it joins.
pub(crate) struct Member {
    section: config::Cluster,
    tls: config::Tls,
    listener: TcpListener,
    at: SocketAddr,
    secrets: gossip::Secrets,
    live: LiveTls,
    message_bytes: usize,
}

/// The running links of a member.
pub(crate) struct Membership {
    pub(crate) links: Links,
    pub(crate) at: SocketAddr,
}

impl Member {
    /// Reads and checks what the configuration names, and binds the peers' address. `None` for a node that is alone.
    ///
    /// # Errors
    /// When a file can't be used, the certificate names another node, or the address is taken.
    pub(crate) async fn prepare(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<Option<Self>> {
        let Some(section) = config.cluster.clone() else { return Ok(None) };
        let tls = section.tls(&config.tls);
        let live = LiveTls::new(check(config, &section, clock)?);
        let secrets = read_secrets(&section.secret_file)?;
        let listener = listen(config.listen.peers).await?;
        let at = listener.local_addr().map_err(|source| Error::Listen { at: config.listen.peers, source })?;
        let message_bytes = config.limits.message_bytes as usize;
        Ok(Some(Self { section, tls, listener, at, secrets, live, message_bytes }))
    }

    /// Returns where other nodes find this one.
    pub(crate) fn endpoint(&self) -> String {
        if self.section.advertise.is_empty() { self.at.to_string() } else { self.section.advertise.clone() }
    }

    /// Begins to gossip and to link up with the nodes that the store knows.
    ///
    /// # Errors
    /// When gossip can't begin, or metrics are registered already.
    pub(crate) async fn link(self, cluster: &Cluster, outside: Outside<'_>) -> anyhow::Result<Membership> {
        let endpoint = self.endpoint();
        let Self { section, tls, listener, at, secrets, live, message_bytes } = self;
        let Outside { name, registry, clock, entropy, witness, service, others, closing } = outside;
        let refused: Arc<dyn ObserveRefusals> = witness;

        let mut options = peer::Options::new(cluster.own(), cluster.id(), section.trust_domain.as_str());
        options.birth = cluster.birth().to_owned();
        options.protocols = peer::protocols_held_down(section.protocol_max);
        options.limits.message_bytes = options.limits.message_bytes.max(message_bytes + ENVELOPE_BYTES);
        let context = peer::Context {
            clock: Arc::clone(&clock),
            entropy,
            metrics: peer::Metrics::register(registry)?,
            refused: Arc::clone(&refused),
        };
        let peers = Peers::start(context, options, live.clone(), cluster.nodes(), service);
        others.connect(peers.clone());
        let serving = peers.clone();
        tokio::spawn(async move {
            if let Err(error) = serving.serve(listener).await {
                error!(%error, "the peers' listener ended; other nodes reach this one over the links that it opens only");
            }
        });

        // Whom the store knows needs no seed; chitchat looks host names up by itself.
        let known = cluster.nodes();
        let known = known.borrow().iter().map(|node| node.endpoint.clone()).collect::<Vec<_>>();
        let known = known.into_iter().filter(|seed| !seed.is_empty() && *seed != endpoint);
        // Where datagrams come from must be an address; a name that has none yet is found by the others through their seeds.
        let advertise = lookup_host(&endpoint).await.ok().and_then(|mut found| found.next());
        let options = gossip::Options {
            incarnation: cluster.own(),
            name: name.to_owned(),
            cluster: cluster.id().to_owned(),
            listen: at,
            advertise,
            seeds: section.seeds.iter().cloned().chain(known).collect(),
            secrets,
            timing: gossip::Timing::default(),
        };
        let context = gossip::Context {
            clock: Arc::clone(&clock),
            metrics: gossip::Metrics::register(registry)?,
            refused,
        };
        let first = Announcement { state: MemberState::Joining, peers: endpoint, ..Announcement::default() };
        let gossip = Arc::new(Gossip::start(context, options, first).await?);
        info!(peers = %at, cluster = cluster.id(), incarnation = cluster.own().0, "linked to the cluster");

        let files = Follow { tls, secret: section.secret_file, clock, live, gossip: Arc::clone(&gossip) };
        tokio::spawn(files.run(closing));
        Ok(Membership { links: Links { gossip, peers }, at })
    }
}

/// What a member's links need of the node.
pub(crate) struct Outside<'a> {
    pub(crate) name: &'a str,
    pub(crate) registry: &'a Registry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
    pub(crate) witness: Arc<Witness>,
    pub(crate) service: Arc<dyn PeerService>,
    /// Where the rest of the node finds the links.
    pub(crate) others: Others,
    /// Cancelled when the node closes.
    pub(crate) closing: CancellationToken,
}

impl Membership {
    /// Ends the links and the gossip.
    pub(crate) async fn stop(&self) {
        self.links.peers.stop().await;
        self.links.gossip.stop().await;
    }
}

/// Checks everything that the `[cluster]` section names but the address, without holding on to it.
///
/// # Errors
/// As [`Member::prepare`].
pub(crate) fn check_files(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<bool> {
    let Some(section) = &config.cluster else { return Ok(false) };
    check(config, section, clock)?;
    read_secrets(&section.secret_file)?;
    Ok(true)
}

fn check(
    config: &Config,
    section: &config::Cluster,
    clock: &Arc<dyn Clock>,
) -> Result<peer::Tls, tls::Error> {
    let files = section.tls(&config.tls);
    let identity = format!("spiffe://{}/node/{}", section.trust_domain, config.node.name);
    tls::names(&files.certificate, &identity, &config.node.name)?;
    tls::peers(&files, clock)
}

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf, absolute},
    time::Duration,
};

use aesp_proto::{
    Entropy, Error, ErrorCode, Timestamp,
    v1::{JoinClusterResponse, SharedFile, SharedSettings},
};
use prometheus::{IntCounterVec, Opts, Registry};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio::time::Instant;

use super::{Throttle, fingerprint};
use crate::{
    Config, config,
    init::{self, Authority, SigningRequest, Subject},
};

/// How long the certificate of a node holds.
const NODE_LIFE: Duration = Duration::from_secs(397 * 86_400);

/// Where machines that join the cluster come in.
pub(crate) struct Door {
    /// None for a node that is alone.
    shares: Option<Shares>,
    throttle: Throttle,
    /// By `outcome`: `joined`, or why not.
    attempts: IntCounterVec,
    entropy: Entropy,
}

/// What all nodes share, and where it is here.
struct Shares {
    pki: PathBuf,
    tls: config::Tls,
    secret: PathBuf,
    /// But for the cluster's id and its nodes.
    settings: SharedSettings,
}

impl Door {
    /// Makes the one of this node.
    ///
    /// # Errors
    /// When a path can't be made absolute, or the registry has the metric already.
    pub(crate) fn new(config: &Config, registry: &Registry, entropy: Entropy) -> anyhow::Result<Self> {
        let attempts = IntCounterVec::new(
            Opts::new("aesp_cluster_join_attempts_total", "Machines that wanted to join with a token."),
            &["outcome"],
        )?;
        registry.register(Box::new(attempts.clone()))?;
        let shares = config.cluster.as_ref().map(|section| Shares::of(config, section)).transpose()?;
        Ok(Self { shares, throttle: Throttle::default(), attempts, entropy })
    }

    /// Lets a stranger try, or not yet.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`, with the time to wait.
    pub(crate) fn admit(&self, from: Option<IpAddr>) -> Result<(), Error> {
        self.throttle.admit(from, Instant::now()).map_err(|wait| {
            Error::new(ErrorCode::RateLimitExceeded, "too many attempts to join come from this network")
                .retry_after(wait)
        })
    }

    /// Counts an attempt; `outcome` is one of few constants.
    pub(crate) fn count(&self, outcome: &str) {
        self.attempts.with_label_values(&[outcome]).inc();
    }

    /// Returns the authorities whose certificates the nodes believe, PEM.
    ///
    /// # Errors
    /// That this node is alone, or the file can't be read.
    pub(crate) fn authorities(&self) -> Result<Vec<u8>, Error> {
        read(&self.shares()?.tls.client_ca)
    }

    /// Returns the fingerprint of the authority that signs here.
    ///
    /// # Errors
    /// That nothing can be signed here.
    pub(crate) fn signer(&self) -> Result<String, Error> {
        Ok(fingerprint(&self.authority()?.1))
    }

    /// Signs the certificate of a node.
    ///
    /// # Errors
    /// That nothing can be signed here.
    pub(crate) fn sign(
        &self,
        request: SigningRequest,
        node: &str,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<init::Signed, Error> {
        let (authority, _) = self.authority()?;
        let subject = Subject::node(node, hosts);
        let domain = &self.shares()?.settings.trust_domain;
        authority.sign(request, &subject, domain, now, NODE_LIFE).map_err(Error::internal)
    }

    /// Returns what a node gets, but for its certificate.
    ///
    /// # Errors
    /// That a file can't be read.
    pub(crate) fn gives(&self, cluster_id: &str, seeds: Vec<String>) -> Result<JoinClusterResponse, Error> {
        let shares = self.shares()?;
        let lists = shares.tls.crls.iter().map(|path| shared(path)).collect::<Result<_, _>>()?;
        let settings = SharedSettings { cluster_id: cluster_id.to_owned(), seeds, ..shares.settings.clone() };
        Ok(JoinClusterResponse {
            authorities: Some(shared(&shares.tls.client_ca)?),
            revocation_lists: lists,
            secret: Some(shared(&shares.secret)?),
            settings: Some(settings),
            ..JoinClusterResponse::default()
        })
    }

    fn shares(&self) -> Result<&Shares, Error> {
        self.shares.as_ref().ok_or_else(|| {
            Error::new(ErrorCode::StateConflict, "this node is alone: there is no cluster to join").remedy(
                "make it a member first: aesp config default explains [cluster], or aesp init --listen-peers",
            )
        })
    }

    /// Opens the authority, with its certificate; it must be one that the nodes believe.
    fn authority(&self) -> Result<(Authority, CertificateDer<'static>), Error> {
        let shares = self.shares()?;
        let absent = |why: &str| {
            Error::new(ErrorCode::ConfigurationError, format!("this node can't sign certificates: {why}"))
                .remedy("make the certificate where the authority's key is: aesp pki node NAME; or ask the node that has the key in its pki folder")
        };
        let here = |error: init::Error| absent("its pki folder has no authority with its key").because(error);
        let authority = Authority::open(&shares.pki, &self.entropy).map_err(here)?;
        let own = authority.certificate().map_err(here)?;
        let believed = read(&shares.tls.client_ca)?;
        let mut believed = CertificateDer::pem_slice_iter(&believed).filter_map(Result::ok);
        if believed.any(|one| one == own) {
            return Ok((authority, own));
        }
        Err(absent("the authority in its pki folder is not one of tls.client_ca"))
    }
}

impl Shares {
    fn of(config: &Config, section: &config::Cluster) -> std::io::Result<Self> {
        let text = |path: &Path| Ok::<_, std::io::Error>(absolute(path)?.display().to_string());
        let store_path = match config.store.path.split_once(':') {
            Some((engine, path)) => format!("{engine}:{}", text(Path::new(path))?),
            None => config.store.path.clone(),
        };
        let mut tls = config.tls.clone();
        tls.client_ca = absolute(&tls.client_ca)?;
        tls.crls = tls.crls.iter().map(absolute).collect::<Result<_, _>>()?;
        Ok(Self {
            pki: config.node.data_dir.join("pki"),
            tls,
            secret: absolute(&section.secret_file)?,
            settings: SharedSettings {
                cluster_id: String::new(),
                trust_domain: section.trust_domain.clone(),
                seeds: Vec::new(),
                lease_ms: section.lease_ms,
                store_path,
                map_size_gib: config.store.map_size_gib,
                master_key_file: text(&config.keys.master_key_file)?,
                token_issuer: config.tokens.issuer.clone(),
                token_audience: config.tokens.audience.clone(),
                access_ttl_seconds: config.tokens.access_ttl_seconds,
                refresh_ttl_seconds: config.tokens.refresh_ttl_seconds,
                message_bytes: config.limits.message_bytes,
                store_prefix: config.store.fdb.prefix.clone(),
                keys: toml::to_string(&config.keys.clone().absolute()?).map_err(std::io::Error::other)?,
            },
        })
    }
}

fn shared(path: &Path) -> Result<SharedFile, Error> {
    Ok(SharedFile { path: path.display().to_string(), content: read(path)? })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| {
        Error::new(ErrorCode::ConfigurationError, "this node can't read a file that it shares with others")
            .remedy("look at the node's log, correct the file, or ask another node")
            .because(anyhow::anyhow!(error).context(path.display().to_string()))
    })
}

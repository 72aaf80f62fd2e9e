use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use aesp_proto::{
    Clock, Entropy,
    v1::{JoinClusterResponse, SharedFile, SharedSettings},
};
use anyhow::Context;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::{directory::SECRET_FILE, ensure_free, files};
use crate::{Config, cluster, config};

/// A node that joins, and where it is to be reached.
#[derive(Clone, Debug)]
pub(crate) struct NewNode {
    pub(crate) name: String,
    pub(crate) grpc: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) peers: Option<SocketAddr>,
    /// Where other nodes reach it, when that is not where it is bound.
    pub(crate) advertise: Option<String>,
}

/// A key that stays on this machine.
pub(crate) struct NodeKey(KeyPair);

impl NodeKey {
    /// Makes one.
    ///
    /// # Errors
    /// When the cryptographic provider refuses.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        Ok(Self(KeyPair::generate()?))
    }

    /// Returns a request for a certificate of this key, PKCS#10 in DER.
    ///
    /// # Errors
    /// When the name can't stand in one.
    pub(crate) fn request(&self, name: &str) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }
}

/// A data directory that is being made: wholly or not at all. It begins before a token is used, so that a place that can't be
/// written to costs none.
pub(crate) struct Draft {
    folder: PathBuf,
    place: PathBuf,
}

/// A data directory that was made.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) config: PathBuf,
    /// Files of other nodes of this machine that the node uses where they are.
    pub(crate) shared: Vec<PathBuf>,
    /// What the operator has to see to before the node can start.
    pub(crate) missing: Vec<String>,
}

impl Draft {
    /// Begins beside the place.
    ///
    /// # Errors
    /// When something is there, or it can't be written to.
    pub(crate) fn begin(data_dir: &Path, entropy: &Entropy) -> anyhow::Result<Self> {
        ensure_free(data_dir)?;
        let parent = data_dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("can't make {}", parent.display()))?;
        let folder = parent.join(format!(".aesp-join-{:08x}", entropy.below(1 << 32)));
        files::private_folder(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        Ok(Self { folder, place: data_dir.to_owned() })
    }

    /// Writes what the cluster gave, checks that a node could start with it, and puts it in its place.
    ///
    /// # Errors
    /// When the answer is not whole or not for this node, or a file can't be written; then nothing is left.
    pub(crate) fn finish(
        self,
        wanted: &NewNode,
        key: &NodeKey,
        answer: JoinClusterResponse,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Joined> {
        let settings = answer.settings.clone().context("the answer has no settings")?;
        let (config, shared) = self.fill(wanted, key, answer, &settings)?;
        let file = self.folder.join("aesp.toml");
        let text = toml::to_string(&config)?;
        files::private(
            &file,
            format!("# Made by aesp node join. `aesp config default` explains every key.\n\n{text}"),
        )?;
        let checked = config::load(&config::Sources { file: Some(file), ..Default::default() })?;
        cluster::check_files(&checked, clock)?;
        // An empty folder may be there; anything else makes this fail.
        fs::rename(&self.folder, &self.place)
            .with_context(|| format!("can't make {}", self.place.display()))?;
        Ok(Joined { config: self.place.join("aesp.toml"), shared, missing: missing(&settings) })
    }

    fn fill(
        &self,
        wanted: &NewNode,
        key: &NodeKey,
        answer: JoinClusterResponse,
        settings: &SharedSettings,
    ) -> anyhow::Result<(Config, Vec<PathBuf>)> {
        let JoinClusterResponse { authorities, revocation_lists, secret, .. } = answer;
        files::private_folder(&self.folder.join("pki"))?;
        files::private(&self.folder.join("pki/node.key"), key.0.serialize_pem())?;
        files::public(&self.folder.join("pki/node.pem"), &answer.certificate_pem)?;

        let mut shared = Vec::new();
        let mut place =
            |file: SharedFile, name: String, private| self.place(file, name, private, &mut shared);
        let client_ca =
            place(authorities.context("the answer has no authorities")?, "pki/ca.pem".into(), false)?;
        let mut crls = Vec::new();
        for (number, list) in revocation_lists.into_iter().enumerate() {
            crls.push(place(list, format!("pki/ca-{number}.crl"), false)?);
        }
        let secret_file = place(secret.context("the answer has no secret")?, SECRET_FILE.into(), true)?;

        let node =
            config::Node { name: wanted.name.clone(), data_dir: ".".into(), ..config::Node::default() };
        let mut config = Config { node, ..Config::default() };
        config.store.path.clone_from(&settings.store_path);
        config.store.map_size_gib = settings.map_size_gib;
        config.store.fdb.prefix.clone_from(&settings.store_prefix);
        config.keys = keys(settings)?;
        // One certificate for clients and for the links to other nodes.
        config.tls =
            config::Tls { certificate: "pki/node.pem".into(), key: "pki/node.key".into(), client_ca, crls };
        config.listen.grpc = wanted.grpc.unwrap_or(config.listen.grpc);
        config.listen.https = wanted.https.unwrap_or(config.listen.https);
        config.listen.metrics = wanted.metrics.unwrap_or(config.listen.metrics);
        config.listen.peers = wanted.peers.unwrap_or(config.listen.peers);
        config.tokens.issuer.clone_from(&settings.token_issuer);
        config.tokens.audience.clone_from(&settings.token_audience);
        config.tokens.access_ttl_seconds = settings.access_ttl_seconds;
        config.tokens.refresh_ttl_seconds = settings.refresh_ttl_seconds;
        config.limits.message_bytes = settings.message_bytes;
        config.cluster = Some(config::Cluster {
            secret_file,
            seeds: settings.seeds.clone(),
            advertise: wanted.advertise.clone().unwrap_or_default(),
            trust_domain: settings.trust_domain.clone(),
            lease_ms: settings.lease_ms,
            ..Default::default()
        });
        Ok((config, shared))
    }

    /// Returns where the node finds a file that all nodes have: where the node that answered has it, if that is here, so that
    /// both see its changes; otherwise a copy.
    fn place(
        &self,
        file: SharedFile,
        name: String,
        private: bool,
        shared: &mut Vec<PathBuf>,
    ) -> std::io::Result<PathBuf> {
        let there = PathBuf::from(file.path);
        if there.is_absolute() && fs::read(&there).is_ok_and(|content| content == file.content) {
            shared.push(there.clone());
            return Ok(there);
        }
        let copy = self.folder.join(&name);
        if private {
            files::private(&copy, file.content)?
        } else {
            files::public(&copy, file.content)?
        }
        Ok(name.into())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already when it was put in its place.
        if let Err(left) = fs::remove_dir_all(&self.folder)
            && left.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.display(), error = %left, "an unfinished folder is left");
        }
    }
}

/// Returns what does not travel and is not here.
fn missing(settings: &SharedSettings) -> Vec<String> {
    let mut missing = Vec::new();
    match settings.store_path.split_once(':') {
        Some(("lmdb", path)) if !Path::new(path).is_dir() => missing.push(format!(
            "the store {path} is not on this machine: nodes on the embedded engine all run on one"
        )),
        Some((_, path)) if !Path::new(path).exists() => missing.push(format!(
            "{path}, which leads to the store, is not on this machine: bring it, or name its place in store.path"
        )),
        _ => {}
    }
    for (key, path) in keys(settings).map(|keys| keys.files()).unwrap_or_default() {
        if fs::File::open(&path).is_err() {
            missing.push(format!(
                "what opens the master key is never sent: bring it to {} with mode 0600, or name its place in {key}",
                path.display()
            ));
        }
    }
    missing
}

/// Returns where the master key is; a node of the release before knows files only.
fn keys(settings: &SharedSettings) -> anyhow::Result<config::Keys> {
    if settings.keys.is_empty() {
        return Ok(config::Keys {
            master_key_file: (&settings.master_key_file).into(),
            ..config::Keys::default()
        });
    }
    toml::from_str(&settings.keys)
        .context("the node that answers has a [keys] section that this release does not know")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, time::Duration};

    use aesp_proto::SystemClock;

    use super::*;
    use crate::init::{Authority, SigningRequest, Subject};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn answer(there: &Path, key: &NodeKey, name: &str) -> JoinClusterResponse {
        let clock = SystemClock;
        let authority = Authority::create(there, clock.now(), &Entropy::from_system()).unwrap();
        let request = SigningRequest::read(&key.request("whatever").unwrap()).unwrap();
        let life = Duration::from_secs(3_600);
        let subject = Subject::node(name, &[]);
        let signed = authority.sign(request, &subject, "aesp.local", clock.now(), life).unwrap();
        let file = |name: &str| {
            let path = there.join(name);
            SharedFile { content: fs::read(&path).unwrap(), path: path.display().to_string() }
        };
        let secret = SharedFile { path: "/nowhere/secret".into(), content: [b'a'; 64].to_vec() };
        JoinClusterResponse {
            certificate_pem: signed.pem,
            serial: signed.serial,
            identity: signed.identity,
            authorities: Some(file("ca.pem")),
            revocation_lists: vec![file("ca.crl")],
            secret: Some(secret),
            settings: Some(SharedSettings {
                trust_domain: "aesp.local".into(),
                seeds: vec!["127.0.0.1:9444".into()],
                lease_ms: 2_000,
                store_path: "lmdb:/nowhere/store".into(),
                map_size_gib: 1,
                master_key_file: "/nowhere/master.key".into(),
                token_issuer: "https://localhost:8443".into(),
                token_audience: "aesp".into(),
                access_ttl_seconds: 600,
                refresh_ttl_seconds: 86_400,
                message_bytes: 1 << 20,
                store_prefix: "acme-aesp".into(),
                ..SharedSettings::default()
            }),
        }
    }

    fn wanted() -> NewNode {
        NewNode { name: "n4".into(), grpc: None, https: None, metrics: None, peers: None, advertise: None }
    }

    #[test]
    fn what_is_here_is_used_where_it_is_and_the_rest_is_copied_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let (there, place) = (folder.path().join("there"), folder.path().join("here"));
        fs::create_dir(&there).unwrap();
        let key = NodeKey::generate().unwrap();
        let answer = answer(&there, &key, "n4");
        let draft = Draft::begin(&place, &Entropy::from_system()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let joined = draft.finish(&wanted(), &key, answer, &clock).unwrap();
        assert_eq!(joined.shared, [there.join("ca.pem"), there.join("ca.crl")]);
        assert_eq!(joined.missing.len(), 2, "{:?}", joined.missing);
        assert_eq!(mode(&place), 0o700);
        for private in ["aesp.toml", "cluster.secret", "pki/node.key"] {
            assert_eq!(mode(&place.join(private)), 0o600, "{private}");
        }
        let sources = config::Sources { file: Some(joined.config), ..Default::default() };
        let config = config::load(&sources).unwrap();
        let cluster = config.cluster.unwrap();
        assert_eq!(cluster.secret_file, place.join("cluster.secret"));
        assert_eq!(cluster.seeds, ["127.0.0.1:9444"]);
        assert_eq!(config.tls.certificate, place.join("pki/node.pem"));
        assert_eq!(config.limits.message_bytes, 1 << 20);
        assert_eq!(config.store.fdb.prefix, "acme-aesp");
    }

    #[test]
    fn a_certificate_for_somebody_else_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (there, place) = (folder.path().join("there"), folder.path().join("here"));
        fs::create_dir(&there).unwrap();
        let key = NodeKey::generate().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let other = answer(&there, &key, "n5");
        let draft = Draft::begin(&place, &Entropy::from_system()).unwrap();
        let error = draft.finish(&wanted(), &key, other, &clock).unwrap_err();
        assert!(format!("{error:#}").contains("spiffe://aesp.local/node/n5"), "{error:#}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the authority is left");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("x"), "").unwrap();
        assert!(Draft::begin(&place, &Entropy::from_system()).is_err());
    }
}

//! The platform log, its witnesses and its anchors. Everything that is shown is checked here first.

use std::{collections::BTreeMap, path::PathBuf};

use aesp_audit::PublicKey;
use aesp_backup::{Credentials, Files, Target};
use aesp_merkle::{Checkpoint, Cosigner, Hash, leaf_hash, proof::is_consistent, root_of_path};
use aesp_proto::v1;
use aesp_sdk::Client;
use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use super::{context::Context, failure::Failure, file, proof::hashes, verify::public_key};

const COLUMNS: &[&str] = &["name", "size", "behind", "cause", "trouble", "contradiction"];
/// Anchors are files of this kind.
const CHECKPOINT: &str = ".checkpoint";

/// Whom the one who checks trusts.
#[derive(Args, Debug)]
pub(crate) struct Trusted {
    /// The public key that signs checkpoints, 64 hexadecimal digits; may be repeated. Without any, no signature is checked.
    #[arg(long = "log-key", value_name = "HEX", value_parser = public_key)]
    keys: Vec<PublicKey>,
    /// The key of a witness, as aesp witness key shows it; may be repeated.
    #[arg(long = "witness", value_name = "KEY", value_parser = witness)]
    witnesses: Vec<Cosigner>,
    /// How many of these witnesses must have cosigned [default: all of them].
    #[arg(long)]
    quorum: Option<usize>,
}

fn witness(text: &str) -> Result<Cosigner, String> {
    text.parse().map_err(|_| "the key of a witness: NAME+ID+BASE64 of type 04".to_owned())
}

impl Trusted {
    /// Opens a checkpoint of the platform log.
    fn open(&self, note: &str) -> Result<Checkpoint, String> {
        let head = if self.keys.is_empty() {
            Checkpoint::glance(note)
        } else {
            self.keys.iter().find_map(|key| Checkpoint::open(note, key.0).ok())
        };
        let head = head.ok_or("it is not signed by a log key that you gave")?;
        let cosigned = self.witnesses.iter().filter(|key| key.open(note).is_ok()).count();
        let quorum = self.quorum.unwrap_or(self.witnesses.len());
        if cosigned < quorum {
            return Err(format!("{cosigned} of the witnesses that you gave cosigned it, {quorum} must"));
        }
        Ok(head)
    }
}

/// Prove that a checkpoint of the tenant's log is in the platform log.
#[derive(Args, Debug)]
pub(crate) struct HeadProof {
    /// The head of exactly so many events; 0 for the newest that is in it.
    #[arg(long, default_value_t = 0)]
    size: u64,
    /// A checkpoint of the log that you kept: the proof must be of this one.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Check a proof that was kept (as --output json shows it), without the Host.
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    offline: Option<PathBuf>,
    #[command(flatten)]
    trusted: Trusted,
}

impl HeadProof {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let kept = self.checkpoint.as_deref().map(file::text).transpose()?;
        let kept = kept.map(|note| Checkpoint::glance(&note).ok_or_else(|| bad("the file is no checkpoint")));
        let kept = kept.transpose()?;
        if let Some(path) = &self.offline {
            let proof = super::render::from_json("HeadProof", &file::text(path)?)?;
            self.check(&proof, kept.as_ref())?;
            return ctx.console.one("HeadProof", &proof);
        }
        let size = kept.as_ref().map_or(self.size, |head| head.size);
        let request = v1::GetHeadProofRequest { tenant_id: ctx.tenant(), size };
        let answer = ctx.client()?.platform_log().get_head_proof(request).await?;
        self.check(answer.get_ref(), kept.as_ref())?;
        ctx.show("HeadProof", answer)
    }

    fn check(&self, proof: &v1::HeadProof, kept: Option<&Checkpoint>) -> Result<(), Failure> {
        let leaf = Checkpoint::read(&proof.leaf).ok_or_else(|| bad("the leaf is no head of a log"))?;
        if kept.is_some_and(|kept| *kept != leaf) {
            return Err(bad("the leaf is not the checkpoint that you kept"));
        }
        let path = hashes(&proof.path)?;
        let root = root_of_path(leaf_hash(proof.leaf.as_bytes()), proof.leaf_index, proof.size, &path);
        let head = self.trusted.open(&proof.checkpoint).map_err(|why| bad(&why))?;
        let fits = head.origin == proof.origin && head.size == proof.size && Some(head.root) == root;
        if fits { Ok(()) } else { Err(bad("the path does not lead from the head to the checkpoint")) }
    }
}

pub(crate) async fn platform_log(ctx: &Context, trusted: &Trusted) -> Result<(), Failure> {
    let request = v1::GetPlatformLogRequest { tenant_id: ctx.tenant() };
    let answer = ctx.client()?.platform_log().get_platform_log(request).await?;
    let log = answer.get_ref();
    let head = trusted.open(&log.checkpoint).map_err(|why| bad(&why))?;
    if head.origin != log.origin || head.size != log.size || head.root.as_slice() != log.root {
        return Err(bad("the checkpoint says something else than the answer"));
    }
    ctx.show("PlatformLog", answer)
}

pub(crate) async fn witnesses(ctx: &Context) -> Result<(), Failure> {
    let answer = ctx.client()?.platform_log().list_witnesses(v1::ListWitnessesRequest {}).await?;
    ctx.show_list("ListWitnessesResponse", answer, "witnesses", COLUMNS)
}

pub(crate) async fn reset_witness(ctx: &Context, name: String) -> Result<(), Failure> {
    let answer = ctx.client()?.platform_log().reset_witness(v1::ResetWitnessRequest { name }).await?;
    ctx.show("ResetWitnessResponse", answer)
}

/// Check the anchored checkpoints against each other and against the platform log: name the first that does not fit.
#[derive(Args, Debug)]
pub(crate) struct VerifyAnchors {
    /// Where they are: file:///PATH, s3://BUCKET/PREFIX, az://ACCOUNT/CONTAINER/PREFIX or gs://BUCKET/PREFIX, as audit.anchor.target
    /// has it. What opens it comes from the environment.
    #[arg(long, value_name = "TARGET")]
    from: String,
    /// The authorities that the object store's certificate must come from, PEM.
    #[arg(long, value_name = "FILE")]
    store_ca: Option<PathBuf>,
    /// The access key id.
    #[arg(long, env = "AESP_ANCHOR_USER")]
    user: Option<String>,
    /// The secret access key, account key or service account.
    #[arg(long, env = "AESP_ANCHOR_SECRET", hide_env_values = true)]
    secret: Option<String>,
    #[command(flatten)]
    trusted: Trusted,
}

/// An anchor that was read and whose signatures hold.
struct Anchored {
    name: String,
    head: Checkpoint,
}

impl VerifyAnchors {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut logs: BTreeMap<String, Vec<Anchored>> = BTreeMap::new();
        for (name, note) in self.read().await? {
            let head = self.trusted.open(&note).map_err(|why| misfit(&name, &why))?;
            if aesp_witness::anchor_name(&head.origin, head.size, &note) != name {
                return Err(misfit(&name, "it is not what its name says"));
            }
            logs.entry(head.origin.clone()).or_default().push(Anchored { name, head });
        }
        let client = ctx.client()?;
        let newest = client
            .platform_log()
            .get_platform_log(v1::GetPlatformLogRequest { tenant_id: ctx.tenant() })
            .await?;
        let newest = self.trusted.open(&newest.get_ref().checkpoint).map_err(|why| bad(&why))?;
        let (mut anchors, mut shown) = (0, Vec::new());
        for (origin, mut of_log) in logs {
            of_log.sort_by_key(|anchor| anchor.head.size);
            let last = of_log.last().map_or(0, |anchor| anchor.head.size);
            anchors += of_log.len();
            shown.push(json!({ "origin": origin, "anchors": of_log.len(), "size": last }));
            let end =
                if newest.origin == origin { newest.clone() } else { of_log[of_log.len() - 1].head.clone() };
            let ends = of_log.iter().skip(1).map(|anchor| &anchor.head).chain([&end]);
            for (anchor, next) in of_log.iter().zip(ends) {
                self.consistent(&client, ctx, anchor, next).await?;
            }
        }
        ctx.console.value(&json!({
            "anchors": anchors,
            "logs": shown,
            "trusted": !self.trusted.keys.is_empty(),
            "witnesses": self.trusted.witnesses.len(),
        }))
    }

    /// Reads all anchors, in the order of their names.
    async fn read(&self) -> Result<Vec<(String, String)>, Failure> {
        let unusable = |error: aesp_backup::Error| {
            let what = match error {
                aesp_backup::Error::Target(what) => what,
                error => error.to_string(),
            };
            Failure::local(
                format!("{} can't be read: {what}", self.from),
                "name where audit.anchor.target points to",
            )
        };
        let credentials = Credentials {
            id: self.user.clone(),
            secret: self.secret.clone().map(Zeroizing::new),
            roots_pem: self.store_ca.as_deref().map(file::text).transpose()?,
            ..Credentials::default()
        };
        let target = Target::parse(&self.from, credentials).map_err(unusable)?;
        let files = Files::open_to_read(&target).map_err(unusable)?;
        let mut out = Vec::new();
        for name in files.list().await.map_err(unusable)? {
            if name.ends_with(CHECKPOINT) {
                let bytes = files.read(&name).await.map_err(unusable)?;
                let note = String::from_utf8(bytes.to_vec()).map_err(|_| misfit(&name, "it is no text"))?;
                out.push((name, note));
            }
        }
        if out.is_empty() {
            return Err(Failure::local(
                format!("there is no anchor at {}", self.from),
                "name where audit.anchor.target points to",
            ));
        }
        Ok(out)
    }

    /// Has the Host prove that the tree of an anchor leads to the next one; believes the roots that were anchored, not the Host's.
    async fn consistent(
        &self,
        client: &Client,
        ctx: &Context,
        anchor: &Anchored,
        next: &Checkpoint,
    ) -> Result<(), Failure> {
        let (from, to) = (&anchor.head, next);
        if from.size > to.size {
            let why = format!("it has {} leaves, the platform log only {}", from.size, to.size);
            return Err(misfit(&anchor.name, &why));
        }
        if from.size == to.size {
            let why = "another checkpoint of the same size has another root";
            return if from.root == to.root { Ok(()) } else { Err(misfit(&anchor.name, why)) };
        }
        let request = v1::GetPlatformConsistencyProofRequest {
            tenant_id: ctx.tenant(),
            origin: from.origin.clone(),
            from_size: from.size,
            to_size: to.size,
        };
        let proof = client.platform_log().get_platform_consistency_proof(request).await;
        let proof = proof.map_err(|status| {
            misfit(&anchor.name, &format!("the platform log gives no proof: {}", status.message()))
        })?;
        let proof: Vec<Hash> = hashes(&proof.get_ref().proof)?;
        if is_consistent((from.size, &from.root), (to.size, &to.root), &proof) {
            return Ok(());
        }
        Err(misfit(&anchor.name, &format!("its tree does not lead to the one of {} leaves", to.size)))
    }
}

fn bad(what: &str) -> Failure {
    Failure::local(
        format!("the answer proves nothing: {what}"),
        "compare with what a witness or an anchor has: aesp audit verify-anchors",
    )
}

fn misfit(name: &str, why: &str) -> Failure {
    Failure::local(
        format!("anchor {name} does not fit: {why}"),
        "the platform log was rewritten, or the anchor is not its own: ask the witnesses what they saw",
    )
}

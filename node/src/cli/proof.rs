//! What shows that the audit log was not changed: checkpoints, proofs, and the keys behind them. Every proof is checked here before it
//! is shown.

use aesp_audit::{Handover, LogKey as PublicLogKey, PublicKey, believed, certified};
use aesp_merkle::{Checkpoint, Hash, leaf_hash, proof::is_consistent, root_of_path};
use aesp_proto::v1;
use clap::{Args, Subcommand};

use super::{context::Context, failure::Failure, verify::public_key};

/// The key that the operator published.
#[derive(Args, Debug)]
pub(crate) struct Trusted {
    /// A public key that signs checkpoints, 64 hexadecimal digits; may be repeated. One that was followed by others will do: the signed
    /// hand-overs lead to them. Without any, no signature is checked.
    #[arg(long = "log-key", value_name = "HEX", value_parser = public_key)]
    keys: Vec<PublicKey>,
}

#[derive(Args, Debug)]
pub(crate) struct Prove {
    /// The event's id.
    #[arg(long, value_name = "ID", required_unless_present = "index", conflicts_with = "index")]
    event: Option<String>,
    /// Or its leaf in the log, counted from 0.
    #[arg(long, value_name = "LEAF")]
    index: Option<u64>,
    /// In the tree of so many leaves; 0 for the newest.
    #[arg(long, default_value_t = 0)]
    size: u64,
    #[command(flatten)]
    trusted: Trusted,
}

#[derive(Args, Debug)]
pub(crate) struct Consistency {
    /// The smaller size.
    #[arg(long, value_name = "SIZE")]
    from: u64,
    /// The larger size; 0 for the newest.
    #[arg(long, default_value_t = 0, value_name = "SIZE")]
    to: u64,
    #[command(flatten)]
    trusted: Trusted,
}

/// The keys that sign checkpoints.
#[derive(Subcommand, Debug)]
pub(crate) enum LogKey {
    /// Show the public keys, in the order in which they sign; the last does now.
    Status,
    /// Make the next key, for the logs of all tenants. The last one signs nothing but the hand-over.
    Rotate,
}

impl Trusted {
    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Checks the note, if there is one, and that it says this. A key that signs hand-overs to the one that signed it, or from it, will
    /// do: the Host is asked for them.
    pub(super) async fn check(
        &self,
        ctx: &Context,
        tenant_id: String,
        note: &str,
        (origin, size, root): (&str, u64, &[u8]),
    ) -> Result<(), Failure> {
        if note.is_empty() {
            return if self.keys.is_empty() { Ok(()) } else { Err(unsigned()) };
        }
        let head = if self.keys.is_empty() {
            Checkpoint::glance(note)
        } else {
            match opened(note, &self.keys) {
                Some(head) => Some(head),
                None => {
                    let keys =
                        ctx.client()?.audit().get_log_keys(v1::GetLogKeysRequest { tenant_id }).await?;
                    opened(note, &believed(&Listed::read(keys.get_ref())?.log_keys, &self.keys))
                }
            }
        };
        let head = head.ok_or_else(|| {
            bad("the checkpoint is not signed by the key that you gave, nor by one that hand-overs connect with it")
        })?;
        let same = head.origin == origin && head.size == size && head.root.as_slice() == root;
        if same { Ok(()) } else { Err(bad("the checkpoint says something else than the answer")) }
    }
}

fn opened(note: &str, keys: &[PublicKey]) -> Option<Checkpoint> {
    keys.iter().find_map(|key| Checkpoint::open(note, key.0).ok())
}

/// The keys that the Host lists. Nothing but a hand-over or a certificate makes them trusted.
pub(super) struct Listed {
    log_keys: Vec<PublicLogKey>,
    batch_keys: Vec<(PublicKey, Vec<u8>)>,
}

impl Listed {
    pub(super) fn read(answer: &v1::GetLogKeysResponse) -> Result<Self, Failure> {
        let key = |bytes: &[u8]| {
            bytes.try_into().map(PublicKey).map_err(|_| bad("a public key of the answer has not 32 bytes"))
        };
        let log_key = |listed: &v1::LogKey| {
            let handover = (!listed.handover_by_next.is_empty()).then(|| Handover {
                by_previous: listed.handover_by_previous.clone(),
                by_next: listed.handover_by_next.clone(),
            });
            Ok(PublicLogKey { number: listed.number, public: key(&listed.public_key)?, handover })
        };
        let batch_key = |listed: &v1::BatchKey| Ok((key(&listed.public_key)?, listed.certificate.clone()));
        Ok(Self {
            log_keys: answer.keys.iter().map(log_key).collect::<Result<_, Failure>>()?,
            batch_keys: answer.batch_keys.iter().map(batch_key).collect::<Result<_, Failure>>()?,
        })
    }

    /// Returns every key that is said to sign batches.
    pub(super) fn batch_keys(&self) -> Vec<PublicKey> {
        self.batch_keys.iter().map(|(key, _)| *key).collect()
    }

    /// Returns those that a log key certifies to which these lead.
    pub(super) fn certified(&self, trusted: &[PublicKey]) -> Vec<PublicKey> {
        let certificates = self.batch_keys.iter().map(|(key, certificate)| (*key, certificate.as_slice()));
        certified(&self.log_keys, trusted, certificates)
    }
}

/// Checks that the path of a proof leads from its event to its root.
pub(super) fn check_inclusion(proof: &v1::InclusionProof) -> Result<(), Failure> {
    let path = hashes(&proof.path)?;
    let root = root_of_path(leaf_hash(&proof.leaf), proof.leaf_index, proof.size, &path);
    if root.as_ref().map(Hash::as_slice) == Some(&proof.root) {
        return Ok(());
    }
    Err(bad("the path does not lead from the event to the root"))
}

pub(crate) async fn checkpoint(ctx: &Context, trusted: &Trusted) -> Result<(), Failure> {
    let request = v1::GetCheckpointRequest { tenant_id: ctx.tenant() };
    let answer = ctx.client()?.audit().get_checkpoint(request).await?;
    let head = answer.get_ref();
    trusted.check(ctx, ctx.tenant(), &head.note, (&head.origin, head.size, &head.root)).await?;
    ctx.show("LogCheckpoint", answer)
}

impl Prove {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let request = v1::GetInclusionProofRequest {
            tenant_id: ctx.tenant(),
            event_id: self.event.unwrap_or_default(),
            leaf_index: self.index.unwrap_or_default(),
            size: self.size,
        };
        let answer = ctx.client()?.audit().get_inclusion_proof(request).await?;
        let proof = answer.get_ref();
        check_inclusion(proof)?;
        let told = (proof.origin.as_str(), proof.size, proof.root.as_slice());
        self.trusted.check(ctx, ctx.tenant(), &proof.checkpoint, told).await?;
        ctx.show("InclusionProof", answer)
    }
}

impl Consistency {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let request = v1::GetConsistencyProofRequest {
            tenant_id: ctx.tenant(),
            from_size: self.from,
            to_size: self.to,
        };
        let answer = ctx.client()?.audit().get_consistency_proof(request).await?;
        let proof = answer.get_ref();
        let (from, to) = (hash(&proof.from_root)?, hash(&proof.to_root)?);
        if !is_consistent((proof.from_size, &from), (proof.to_size, &to), &hashes(&proof.proof)?) {
            return Err(bad("the proof does not show that the one tree begins with the other"));
        }
        let told = (proof.origin.as_str(), proof.to_size, proof.to_root.as_slice());
        self.trusted.check(ctx, ctx.tenant(), &proof.checkpoint, told).await?;
        ctx.show("ConsistencyProof", answer)
    }
}

impl LogKey {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut audit = ctx.client()?.audit();
        match self {
            Self::Status => {
                let keys = audit.get_log_keys(v1::GetLogKeysRequest { tenant_id: ctx.tenant() }).await?;
                ctx.show("GetLogKeysResponse", keys)
            }
            Self::Rotate => {
                let key = audit.rotate_log_key(v1::RotateLogKeyRequest {}).await?;
                ctx.show("RotateLogKeyResponse", key)?;
                ctx.console.note(
                    "Publish the new key. Who trusts an older one is led to it by the signed hand-over.",
                )
            }
        }
    }
}

fn hash(bytes: &[u8]) -> Result<Hash, Failure> {
    bytes.try_into().map_err(|_| bad("a hash of the answer has not 32 bytes"))
}

pub(super) fn hashes(all: &[Vec<u8>]) -> Result<Vec<Hash>, Failure> {
    all.iter().map(|bytes| hash(bytes)).collect()
}

fn bad(what: &str) -> Failure {
    Failure::local(
        format!("the answer proves nothing: {what}"),
        "export the log and verify it; if that breaks too, the stored log was tampered with",
    )
}

fn unsigned() -> Failure {
    Failure::local(
        "the answer is about a size whose checkpoint is not stored, so no signature shows its root",
        "leave --size or --to out, or compare the root with a checkpoint that you kept",
    )
}

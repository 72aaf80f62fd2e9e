//! What shows that the audit log was not changed: checkpoints, proofs, and the keys behind them. Every proof is checked here before it
//! is shown.

use aesp_audit::PublicKey;
use aesp_merkle::{Checkpoint, Hash, leaf_hash, proof::is_consistent, root_of_path};
use aesp_proto::v1;
use clap::{Args, Subcommand};

use super::{context::Context, failure::Failure, verify::public_key};

/// The key that the operator published.
#[derive(Args, Debug)]
pub(crate) struct Trusted {
    /// The public key that signs checkpoints, 64 hexadecimal digits; may be repeated. Without any, no signature is checked.
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
    /// Checks the note, if there is one, and that it says this.
    fn check(&self, note: &str, (origin, size, root): (&str, u64, &[u8])) -> Result<(), Failure> {
        if note.is_empty() {
            return if self.keys.is_empty() { Ok(()) } else { Err(unsigned()) };
        }
        let head = if self.keys.is_empty() {
            Checkpoint::glance(note)
        } else {
            self.keys.iter().find_map(|key| Checkpoint::open(note, key.0).ok())
        };
        let head = head.ok_or_else(|| bad("the checkpoint is not signed by the key that you gave"))?;
        let same = head.origin == origin && head.size == size && head.root.as_slice() == root;
        if same { Ok(()) } else { Err(bad("the checkpoint says something else than the answer")) }
    }
}

pub(crate) async fn checkpoint(ctx: &Context, trusted: &Trusted) -> Result<(), Failure> {
    let request = v1::GetCheckpointRequest { tenant_id: ctx.tenant() };
    let answer = ctx.client()?.audit().get_checkpoint(request).await?;
    let head = answer.get_ref();
    trusted.check(&head.note, (&head.origin, head.size, &head.root))?;
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
        let path = hashes(&proof.path)?;
        let root = root_of_path(leaf_hash(&proof.leaf), proof.leaf_index, proof.size, &path);
        if root.as_ref().map(Hash::as_slice) != Some(&proof.root) {
            return Err(bad("the path does not lead from the event to the root"));
        }
        self.trusted.check(&proof.checkpoint, (&proof.origin, proof.size, &proof.root))?;
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
        self.trusted.check(&proof.checkpoint, (&proof.origin, proof.to_size, &proof.to_root))?;
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

fn hashes(all: &[Vec<u8>]) -> Result<Vec<Hash>, Failure> {
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

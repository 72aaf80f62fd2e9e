mod export;
mod filter;
mod index;
mod manifest;
mod retention;
mod search;
mod stats;

use clap::Subcommand;

pub(super) use self::filter::{Times, moment};
use super::{
    audit_sink::AuditSink,
    context::Context,
    failure::Failure,
    platform_log::{self, HeadProof, VerifyAnchors},
    proof::{self, Consistency, LogKey, Prove, Trusted},
    receipt::VerifyReceipt,
    verify::Verify,
};

#[derive(Subcommand, Debug)]
pub(crate) enum Audit {
    /// Find events, or follow them as they happen.
    #[command(visible_alias = "query")]
    Search(Box<search::Search>),
    /// Count events.
    Stats(Box<stats::Stats>),
    /// Write the log of a tenant: as JSON Lines whole and with its proofs, or in a form that other programs read.
    Export(Box<export::Export>),
    /// Check an export offline: name the first event that was changed, removed, inserted or moved.
    Verify(Verify),
    /// Check receipts: that the Host acknowledged their events, and that the log still has them.
    VerifyReceipt(VerifyReceipt),
    /// The index by which events are found.
    #[command(subcommand)]
    Index(index::Index),
    /// Show the newest signed checkpoint of the log.
    Checkpoint {
        #[command(flatten)]
        trusted: Trusted,
    },
    /// Prove that an event is in the log.
    Prove(Prove),
    /// Prove that the log only grew.
    Consistency(Consistency),
    /// The keys that sign checkpoints.
    Key {
        #[command(subcommand)]
        key: LogKey,
    },
    /// Show the checkpoint of the platform log, whose leaves are the heads of all logs.
    PlatformLog {
        #[command(flatten)]
        trusted: platform_log::Trusted,
    },
    /// Prove that a checkpoint of the log is in the platform log.
    HeadProof(HeadProof),
    /// List the witnesses of the platform log, and what each cosigned last.
    Witnesses,
    /// Forget what a witness cosigned and what is held against it: it is asked anew.
    ResetWitness {
        /// As aesp audit witnesses shows it.
        name: String,
    },
    /// Check the anchored checkpoints of the platform log: name the first that does not fit.
    VerifyAnchors(Box<VerifyAnchors>),
    /// Where events are sent as they happen.
    #[command(subcommand)]
    Sink(AuditSink),
    /// How long events are kept.
    #[command(subcommand)]
    Retention(retention::Retention),
    /// What keeps events beyond that.
    #[command(subcommand)]
    Hold(retention::Hold),
    /// Erase what is recorded of a person or account, for good: destroy its key.
    Erase(retention::Erase),
    /// List what was erased: when, by which rule or whom, how many events.
    Destructions(retention::Destructions),
    /// Where the oldest events lie.
    #[command(subcommand)]
    Archive(retention::Archive),
    /// Tell who could use which tool, and who did.
    AccessReport(retention::AccessReport),
}

impl Audit {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Search(search) => search.run(ctx).await,
            Self::Stats(stats) => stats.run(ctx).await,
            Self::Export(export) => export.run(ctx).await,
            Self::Verify(verify) => match verify.manifest() {
                Some(manifest) => manifest::verify(ctx, verify.file(), manifest, verify.keys()),
                None => verify.run(ctx),
            },
            Self::VerifyReceipt(verify) => verify.run(ctx).await,
            Self::Index(index) => index.run(ctx).await,
            Self::Checkpoint { trusted } => proof::checkpoint(ctx, &trusted).await,
            Self::Prove(prove) => prove.run(ctx).await,
            Self::Consistency(consistency) => consistency.run(ctx).await,
            Self::Key { key } => key.run(ctx).await,
            Self::PlatformLog { trusted } => platform_log::platform_log(ctx, &trusted).await,
            Self::HeadProof(proof) => proof.run(ctx).await,
            Self::Witnesses => platform_log::witnesses(ctx).await,
            Self::ResetWitness { name } => platform_log::reset_witness(ctx, name).await,
            Self::VerifyAnchors(verify) => verify.run(ctx).await,
            Self::Sink(sink) => sink.run(ctx).await,
            Self::Retention(retention) => retention.run(ctx).await,
            Self::Hold(hold) => hold.run(ctx).await,
            Self::Erase(erase) => erase.run(ctx).await,
            Self::Destructions(destructions) => destructions.run(ctx).await,
            Self::Archive(archive) => archive.run(ctx).await,
            Self::AccessReport(report) => report.run(ctx).await,
        }
    }
}

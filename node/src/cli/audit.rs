mod export;
mod filter;
mod index;
mod search;
mod stats;

use clap::Subcommand;

use super::{context::Context, failure::Failure, verify::Verify};

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
    /// The index by which events are found.
    #[command(subcommand)]
    Index(index::Index),
}

impl Audit {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Search(search) => search.run(ctx).await,
            Self::Stats(stats) => stats.run(ctx).await,
            Self::Export(export) => export.run(ctx).await,
            Self::Verify(verify) => verify.run(ctx),
            Self::Index(index) => index.run(ctx).await,
        }
    }
}

use std::path::PathBuf;

use clap::Args;

use super::{context::Context, failure::Failure};

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The export; `-` for standard input.
    file: PathBuf,
    /// The node's public audit key, hexadecimal; without it the key in the export is believed.
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
}

impl Verify {
    pub(crate) fn run(self, _ctx: &Context) -> Result<(), Failure> {
        let Self { file, key: _ } = self;
        Err(Failure::local(
            format!("{} can't be verified by this build", file.display()),
            "use a build with aesp-audit's verifier",
        ))
    }
}

//! Runtimes whose tools count their effects durably. `aesp-chaos` starts this.

use std::{io::Write, process::ExitCode};

use aesp_chaos_tests::runtime;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    // Fails only when one is installed, which is then this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Box::pin(runtime::run(runtime::Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr().lock(), "aesp-chaos-runtime: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

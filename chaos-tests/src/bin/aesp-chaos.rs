//! Breaks real clusters on purpose and checks what must hold all the same.

use std::{io::Write, process::ExitCode};

use aesp_chaos_tests::cli;
use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    // Fails only when one is installed, which is then this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Box::pin(cli::run(cli::Arguments::parse())).await {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(std::io::stderr().lock(), "aesp-chaos: {error:#}"));
            ExitCode::from(2)
        }
    }
}

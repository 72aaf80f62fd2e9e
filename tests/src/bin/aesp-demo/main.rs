//! The demonstration: one Host of three nodes, two tenants, real MCP servers, and an agent that is let through, refused, cut off and told.

mod bridges;
mod report;
mod screen;
mod stage;
mod steps;
mod tamper;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{report::Report, stage::Stage};

/// Shows one governed tool call and its refusals on real tools.
#[derive(Parser, Debug)]
struct Arguments {
    /// End when every step was shown; 0 if each came out as it should, 1 otherwise.
    #[arg(long)]
    once: bool,
    /// The folder for demo.json.
    #[arg(long, default_value = "target/out")]
    out: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Fails only when one is installed, which is then this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Box::pin(run(&arguments)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen::say(&format!("\nThe demonstration could not be set up: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut report = Report::start();
    screen::say("AESP Host: the demonstration\n");
    let mut stage = Box::pin(Stage::set(&mut report)).await?;
    Box::pin(steps::all(&mut stage, &mut report)).await;
    report.count(&stage).await;
    report.write(&arguments.out)?;
    report.show(&stage, &arguments.out);
    if !arguments.once {
        screen::say("\nIt stays up until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    stage.end().await;
    Ok(report.ok())
}

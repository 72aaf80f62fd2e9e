//! The bench: the governed path and a bare relay in one run, with the same agent and the same Runtime.

mod cluster;
mod governed;
mod load;
mod many;
mod report;
mod rival;
mod side;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use crate::report::Report;

/// Measures a bare relay and the governed path.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// How long each measurement takes.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How often the two sides are measured, in turn: a machine's speed varies with its neighbours.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measure the two sides and nothing else.
    #[arg(long)]
    compare: bool,
    /// A tenth of everything, once: to see that it works.
    #[arg(long)]
    quick: bool,
    /// The folder for bench.json.
    #[arg(long, default_value = "target/out")]
    out: PathBuf,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Be the bare relay. The bench starts this itself.
    #[command(hide = true)]
    Relay {
        /// The configuration of a Host, for its certificates.
        #[arg(long)]
        config: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    // Fails only when one is installed, which is then this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match Box::pin(run(Arguments::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("The bench failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Command::Relay { config }) = arguments.command {
        return rival::serve(config).await;
    }
    let length = if arguments.quick { 1 } else { arguments.seconds.max(1) };
    let length = Duration::from_secs(length);
    let scale = if arguments.quick { 10 } else { 1 };
    let mut report = Report::default();

    let rounds = if arguments.quick { 1 } else { arguments.rounds.max(1) };
    let governed = governed::Governed::start().await?;
    let relay = rival::Relay::start(governed.host()).await?;
    for round in 1..=rounds {
        report::say(&format!("bare relay, round {round} of {rounds}"));
        let relayed = side::measure(relay.side()?, length).await?;
        report::say("governed path");
        let checked = side::measure(governed.side()?, length).await?;
        report.compare(relayed, checked);
    }
    drop((relay, governed));
    if arguments.compare {
        report.write(&arguments.out)?;
        report.show(&arguments.out);
        return Ok(());
    }

    report::say("many calls in flight");
    // The first asks for more calls a second than two cores make, the second for a third of that.
    for tool_seconds in [1, 3] {
        report.many_calls(many::calls(10_000 / scale, tool_seconds).await?);
    }
    report::say("many Runtime connections");
    report.many_runtimes(many::runtimes(1_000 / scale).await?);
    report::say("many sessions");
    report.many_sessions(many::sessions(100_000 / scale).await?);
    report::say("three nodes");
    report.cluster(cluster::measure(length, 200 / scale).await?);
    report.write(&arguments.out)?;
    report.show(&arguments.out);
    Ok(())
}

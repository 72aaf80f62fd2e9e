//! The command line: one small file a verb.

mod account;
mod alert;
mod audit;
mod audit_sink;
mod backup;
mod call;
mod cluster;
mod config;
mod console;
mod context;
mod contract;
mod drill;
mod failure;
mod file;
mod init;
mod join;
mod key;
mod listeners;
mod login;
mod node;
mod page;
mod pinned;
mod pki;
mod platform_log;
mod policy;
mod profile;
mod progress;
mod proof;
mod receipt;
mod render;
mod restore;
mod role;
mod runtime;
mod session;
mod store;
mod tenant;
mod tenant_config;
mod tool;
mod verify;
mod version;
mod witness;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};

use self::{
    context::{Context, Global},
    failure::Failure,
};
use crate::Build;

const USAGE: u8 = 64;

/// The AESP Host: agents call tools, every call is checked and recorded.
#[derive(Parser, Debug)]
#[command(name = "aesp", version, disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve until told to stop; or join a cluster first.
    Node(node::Node),
    /// Make a data directory: store, keys, development certificates, first administrator, configuration.
    Init(init::Init),
    /// Customers or units that share the Host and never meet.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Contracts of tools.
    #[command(subcommand)]
    Tool(tool::Tool),
    /// What accounts may do.
    #[command(subcommand)]
    Role(role::Role),
    /// Cedar policies beside the roles.
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Service accounts.
    #[command(subcommand)]
    Account(account::Account),
    /// Sessions of agents.
    #[command(subcommand)]
    Session(session::Session),
    /// Call a tool, or look after a call.
    Call(call::Call),
    /// The record of everything.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Rules over the audit log, and the alerts that they give.
    #[command(subcommand)]
    Alert(alert::Alert),
    /// Processes that run tools.
    #[command(subcommand)]
    Runtime(runtime::Runtime),
    /// The nodes of the cluster.
    #[command(subcommand)]
    Cluster(cluster::Cluster),
    /// Backups of the store.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Restore a backup into an empty folder, offline.
    Restore(restore::Restore),
    /// Restore the latest backup into a scratch folder and check it.
    Drill(drill::Drill),
    /// The store as a whole, offline.
    #[command(subcommand)]
    Store(store::Store),
    /// The keys that protect the data.
    #[command(subcommand)]
    Key(key::Key),
    /// The configuration of a node.
    #[command(subcommand)]
    Config(config::Config),
    /// Certificates of the development authority.
    #[command(subcommand)]
    Pki(pki::Pki),
    /// An independent witness of others' logs.
    #[command(subcommand)]
    Witness(witness::Witness),
    /// Remember how to reach the Host, and as whom.
    Login(login::Login),
    /// Tell which build this is.
    Version,
}

/// Runs the command that the process was started with, as this build does.
#[must_use]
pub fn main(build: Build) -> ExitCode {
    let matches = Cli::command().version(build.version()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // With the terminal gone there is nobody left to tell.
            drop(error.print());
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    // Fails only when one is installed, which is then this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let format = cli.global.output;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(Box::pin(run(cli, build))));
    aesp_storage::FdbEngine::end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(format);
            ExitCode::from(failure.exit_code())
        }
    }
}

async fn run(cli: Cli, build: Build) -> Result<(), Failure> {
    let ctx = Context::new(cli.global, build)?;
    match cli.command {
        Command::Node(command) => command.run(&ctx).await,
        Command::Init(command) => command.run(&ctx).await,
        Command::Tenant(command) => command.run(&ctx).await,
        Command::Tool(command) => command.run(&ctx).await,
        Command::Role(command) => command.run(&ctx).await,
        Command::Policy(command) => command.run(&ctx).await,
        Command::Account(command) => command.run(&ctx).await,
        Command::Session(command) => command.run(&ctx).await,
        Command::Call(command) => command.run(&ctx).await,
        Command::Witness(command) => command.run(&ctx).await,
        Command::Audit(command) => command.run(&ctx).await,
        Command::Alert(command) => command.run(&ctx).await,
        Command::Runtime(command) => command.run(&ctx).await,
        Command::Cluster(command) => command.run(&ctx).await,
        Command::Backup(command) => command.run(&ctx).await,
        Command::Restore(command) => command.run(&ctx).await,
        Command::Drill(command) => command.run(&ctx).await,
        Command::Store(command) => command.run(&ctx).await,
        Command::Key(command) => command.run(&ctx).await,
        Command::Config(command) => command.run(&ctx),
        Command::Pki(command) => command.run(&ctx),
        Command::Login(command) => command.run(&ctx).await,
        Command::Version => version::run(&ctx),
    }
}

#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};

use super::{config, context::Context, failure::Failure, join::Join};
use crate::{logs, serve, wiring};

/// Serve until told to stop; or join a cluster first.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Node {
    #[command(subcommand)]
    first: Option<First>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand, Debug)]
enum First {
    /// Make this machine a node of a cluster: a key, a certificate and a configuration, in exchange for a join token.
    Join(Join),
}

impl Node {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self.first {
            Some(First::Join(join)) => join.run(ctx).await,
            None => self.serve.run(ctx).await,
        }
    }
}

#[derive(Args, Debug)]
struct Serve {
    /// Where to take gRPC, for example 0.0.0.0:9443.
    #[arg(long, value_name = "ADDRESS")]
    listen_grpc: Option<String>,
    /// Where to take HTTPS.
    #[arg(long, value_name = "ADDRESS")]
    listen_https: Option<String>,
    /// Where to show metrics and probes.
    #[arg(long, value_name = "ADDRESS")]
    listen_metrics: Option<String>,
    /// Where other nodes of the cluster reach this one.
    #[arg(long, value_name = "ADDRESS")]
    listen_peers: Option<String>,
    /// Where the store is: `lmdb:PATH`, `fdb:CLUSTER_FILE` or `memory`.
    #[arg(long)]
    store: Option<String>,
    /// Any other key of the configuration, as SECTION.KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write SECTION.KEY=VALUE, for example log.level=debug")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

impl Serve {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let config = config::load(ctx, self.flags())?;
        logs::start(&config.log);
        ctx.build.announce();
        let host = wiring::build(&config, &ctx.build).await?;
        Ok(serve(config, host).await?)
    }

    fn flags(self) -> Vec<(String, String, String)> {
        let set = self.set.into_iter().map(|(key, value)| {
            let flag = format!("--set {key}");
            (key, flag, value)
        });
        let own = [
            ("listen.grpc", "--listen-grpc", self.listen_grpc),
            ("listen.https", "--listen-https", self.listen_https),
            ("listen.metrics", "--listen-metrics", self.listen_metrics),
            ("listen.peers", "--listen-peers", self.listen_peers),
            ("store.path", "--store", self.store),
        ];
        let own = own.into_iter().filter_map(|(key, flag, value)| Some((key.into(), flag.into(), value?)));
        set.chain(own).collect()
    }
}

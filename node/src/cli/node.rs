use clap::Args;

use super::{config, context::Context, failure::Failure};
use crate::{logs, serve, wiring};

/// Serve until told to stop.
#[derive(Args, Debug)]
pub(crate) struct Node {
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

impl Node {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let config = config::load(ctx, self.flags())?;
        logs::start(&config.log);
        let host = wiring::build(&config).await?;
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

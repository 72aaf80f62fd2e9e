use std::path::PathBuf;

use aesp_proto::{Entropy, SystemClock};
use clap::Args;
use serde_json::json;

use super::{context::Context, failure::Failure, listeners::Listeners};
use crate::init;

/// Make a data directory: store, keys, development certificates, first administrator, configuration.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Where; nothing may be there.
    #[arg(long, default_value = "aesp-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The node's name.
    #[arg(long)]
    name: Option<String>,
    /// A further name or address of the node, for its certificate; may be repeated.
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    #[command(flatten)]
    listen: Listeners,
    /// Where the store is: `lmdb:PATH` or `fdb:CLUSTER_FILE`; without it, in the data directory.
    #[arg(long)]
    store: Option<String>,
    /// Any other key of the configuration, as SECTION.KEY=VALUE; may be repeated. Paths are seen from the data directory.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = super::node::assignment)]
    set: Vec<(String, String)>,
}

impl Init {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        if let Err(error) = init::ensure_free(&self.data_dir) {
            let next = "use it with aesp node, or name another place with --data-dir";
            return Err(Failure::local(error.to_string(), next));
        }
        let wanted = init::Wanted {
            data_dir: self.data_dir.clone(),
            node_name: self.name,
            names: self.hosts,
            grpc: self.listen.grpc,
            https: self.listen.https,
            metrics: self.listen.metrics,
            peers: self.listen.peers,
            store: self.store.as_deref().map(from_here),
            set: self.set,
        };
        let made = init::make(&wanted, &SystemClock, &Entropy::from_system()).await?;
        ctx.console.value(&json!({
            "data_dir": self.data_dir,
            "config": made.config,
            "ca": made.ca,
            "administrator_api_key": made.api_key,
        }))?;
        ctx.console.note(&format!(
            "\nThe administrator's key is not shown again: store it now.\n\
             Next:  aesp node --config {config}\n       \
             AESP_API_KEY=… aesp login --ca {ca}",
            config = made.config.display(),
            ca = made.ca.display(),
        ))
    }
}

/// A path on the command line is seen from the working directory, one in the file from the file.
fn from_here(store: &str) -> String {
    let Some((engine, path)) = store.split_once(':') else { return store.to_owned() };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    format!("{engine}:{}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_seen_from_the_working_directory() {
        assert_eq!(from_here("fdb:/etc/foundationdb/fdb.cluster"), "fdb:/etc/foundationdb/fdb.cluster");
        assert!(from_here("fdb:fdb.cluster").starts_with("fdb:/"));
        assert_eq!(from_here("memory"), "memory");
    }
}

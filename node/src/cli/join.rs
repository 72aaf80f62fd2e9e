use std::{path::PathBuf, sync::Arc};

use aesp_proto::{Clock, Entropy, SystemClock, v1::JoinClusterRequest};
use aesp_sdk::{Client, Credentials, Tls};
use clap::Args;
use serde_json::json;

use super::{context::Context, failure::Failure, file, listeners::Listeners, pinned};
use crate::init::{Draft, NewNode, NodeKey};

/// Join a cluster: --endpoint names a node that has the authority's key, --token the join token.
#[derive(Args, Debug)]
pub(crate) struct Join {
    /// The node's name, as its join token may demand it.
    #[arg(long)]
    name: String,
    /// A file with the join token, `-` for standard input: other users may see the command line.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The SHA-256 of the authority's certificate, as `aesp cluster join-token` shows it, instead of --ca.
    #[arg(long, value_name = "HEX", value_parser = pinned::fingerprint_text)]
    ca_fingerprint: Option<String>,
    /// Where the node's files go; nothing may be there.
    #[arg(long, default_value = "aesp-data", value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    listen: Listeners,
    /// The host and port where other nodes reach it, when that is not --listen-peers.
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
}

impl Join {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let join_token = self.token(ctx)?;
        if self.listen.peers.is_some_and(|peers| peers.ip().is_unspecified()) && self.advertise.is_none() {
            return Err(Failure::usage(
                "--listen-peers names no host where other nodes could reach this one",
                "give --advertise HOST:PORT as well",
            ));
        }
        let tls = match &self.ca_fingerprint {
            Some(fingerprint) => Tls::from_pem(&pinned::authority(&ctx.endpoints()?, fingerprint).await?)?,
            None => ctx.tls()?,
        };
        // The join token is the authentication; it is in the request.
        let nobody = Credentials::Token(String::new().into());
        let client = Client::builder(tls).endpoints(ctx.endpoints()?).credentials(nobody).build()?;

        let draft = Draft::begin(&self.data_dir, &Entropy::from_system())
            .map_err(|error| Failure::local(format!("{error:#}"), "name another place with --data-dir"))?;
        let unusable = |error: rcgen::Error| Failure::local(error.to_string(), "check --name");
        let key = NodeKey::generate().map_err(unusable)?;
        let certificate_request = key.request(&self.name).map_err(unusable)?;
        let request = JoinClusterRequest { join_token, node: self.name.clone(), certificate_request };
        let answer = client.cluster().join_cluster(request).await?.into_inner();
        let (identity, serial) = (answer.identity.clone(), answer.serial.clone());
        let wanted = NewNode {
            name: self.name,
            grpc: self.listen.grpc,
            https: self.listen.https,
            metrics: self.listen.metrics,
            peers: self.listen.peers,
            advertise: self.advertise,
        };
        let joined = draft.finish(&wanted, &key, answer, &clock).map_err(|error| {
            let next = "the token is used: correct this, and have another one made: aesp cluster join-token";
            Failure::local(format!("{error:#}"), next)
        })?;
        ctx.console.value(&json!({
            "data_dir": self.data_dir,
            "config": joined.config,
            "identity": identity,
            "serial": serial,
            "shared_files": joined.shared,
            "missing": joined.missing,
        }))?;
        let first = joined.missing.iter().map(|what| format!("First: {what}.\n")).collect::<String>();
        ctx.console.note(&format!("\n{first}Next:  aesp node --config {}", joined.config.display()))
    }

    fn token(&self, ctx: &Context) -> Result<String, Failure> {
        let given = match &self.token_file {
            Some(path) => Some(file::text(path)?.trim().to_owned()),
            None => ctx.profile.token.clone(),
        };
        given.filter(|token| token.starts_with("aespj_")).ok_or_else(|| {
            Failure::usage(
                "there is no join token (aespj_…)",
                "have one made: aesp cluster join-token; then give --token-file, or --token",
            )
        })
    }
}

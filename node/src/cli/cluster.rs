use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure};

const COLUMNS: &[&str] = &[
    "name",
    "incarnation",
    "state",
    "shards",
    "lease_age_ms",
    "sessions",
    "calls",
    "behind",
    "version",
    "protocol",
    "datacenter",
    "zone",
    "endpoint",
];

const TOKEN_COLUMNS: &[&str] = &["token_id", "state", "node", "created_at_ms", "expires_at_ms", "used_by"];

/// Reads a time such as 15m, in seconds.
fn seconds(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let factor = match unit {
        "h" => 3_600,
        "m" => 60,
        _ => 1,
    };
    let seconds = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
    let seconds = seconds.filter(|seconds| (1..=86_400).contains(seconds));
    seconds.ok_or_else(|| "use a time such as 90s, 15m or 2h, up to 24h".into())
}

/// The nodes of the cluster.
#[derive(Subcommand, Debug)]
pub(crate) enum Cluster {
    /// Show the nodes: what each owns, how old its lease is, how busy it is.
    Status,
    /// Have a node hand over all that it owns; it goes on as a gateway until it is stopped.
    Drain {
        /// Its name or incarnation.
        node: String,
    },
    /// Move shards to the nodes that should have them, now.
    Rebalance,
    /// Make a token with which one new node may join: aesp node join. It is shown once.
    JoinToken {
        /// The only name that may join with it [default: any that no living node has].
        #[arg(long)]
        node: Option<String>,
        /// A name or address by which clients will reach the node, for its certificate; may be repeated.
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// For how long it may be used: 90s, 15m, 2h; a day at most.
        #[arg(long, default_value = "15m", value_parser = seconds)]
        ttl: u32,
    },
    /// List join tokens: those that are open, and what became of the others within a day.
    JoinTokens,
    /// Take a join token back.
    RevokeJoinToken {
        /// As aesp cluster join-tokens shows it.
        token_id: String,
    },
    /// Declare a node dead whose lease is silent; one that lives is told to drain instead.
    Remove {
        /// Its name or incarnation.
        node: String,
    },
}

impl Cluster {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut cluster = ctx.client()?.cluster();
        match self {
            Self::Status => {
                let answer = cluster.get_cluster_status(v1::GetClusterStatusRequest {}).await?;
                ctx.show_list("ClusterStatus", answer, "nodes", COLUMNS)
            }
            Self::Drain { node } => {
                ctx.show("DrainNodeResponse", cluster.drain_node(v1::DrainNodeRequest { node }).await?)
            }
            Self::JoinToken { node, hosts, ttl } => {
                let node = node.unwrap_or_default();
                let request = v1::CreateJoinTokenRequest { node: node.clone(), hosts, ttl_seconds: ttl };
                let answer = cluster.create_join_token(request).await?;
                let fingerprint = answer.get_ref().ca_fingerprint.clone();
                ctx.show("CreateJoinTokenResponse", answer)?;
                let name = if node.is_empty() { "NAME" } else { &node };
                ctx.console.note(&format!(
                    "\nThe token is not shown again, and good for one node.\n\
                     Next, on the new machine:  aesp node join --name {name} --endpoint {endpoint} \\\n  \
                     --ca-fingerprint {fingerprint} --token-file FILE",
                    endpoint = ctx.profile.endpoint.as_deref().unwrap_or("https://HOST:9443"),
                ))
            }
            Self::JoinTokens => {
                let answer = cluster.list_join_tokens(v1::ListJoinTokensRequest {}).await?;
                ctx.show_list("ListJoinTokensResponse", answer, "tokens", TOKEN_COLUMNS)
            }
            Self::RevokeJoinToken { token_id } => {
                let request = v1::RevokeJoinTokenRequest { token_id };
                ctx.show("RevokeJoinTokenResponse", cluster.revoke_join_token(request).await?)
            }
            Self::Rebalance => {
                let answer = cluster.rebalance_cluster(v1::RebalanceClusterRequest {}).await?;
                ctx.show("RebalanceClusterResponse", answer)
            }
            Self::Remove { node } => {
                ctx.show("RemoveNodeResponse", cluster.remove_node(v1::RemoveNodeRequest { node }).await?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(seconds("15m"), Ok(900));
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("24h"), Ok(86_400));
        for wrong in ["", "0", "25h", "m", "-1m", "5d", "99999999h"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::{Clock, Entropy, SystemClock};
use clap::Subcommand;
use serde_json::json;

use super::{config, context::Context, failure::Failure};
use crate::init::{Authority, Error, Subject};

/// Of the development authority that `aesp init` made; an organisation's own PKI takes its place in production.
#[derive(Subcommand, Debug)]
pub(crate) enum Pki {
    /// Make a client certificate.
    Issue {
        /// What its files are called, and whom it names unless it is for a Runtime.
        #[arg(long, value_parser = name)]
        name: String,
        /// For the Runtime of this id.
        #[arg(long, value_name = "ID", value_parser = name)]
        runtime: Option<String>,
        /// In this security zone.
        #[arg(long, requires = "runtime", value_parser = name)]
        zone: Option<String>,
        /// How long it holds.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Where the files go [default: the authority's folder].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Make the certificate of a node: it serves clients and links to the other nodes.
    Node {
        /// As `node.name` of its configuration says.
        #[arg(value_parser = name)]
        name: String,
        /// A further name or address by which clients reach it; may be repeated.
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// How long it holds.
        #[arg(long, default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=3_650))]
        days: u32,
        /// Where the files go [default: the authority's folder].
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Put a certificate on the revocation list; nodes close its connections.
    Revoke {
        /// As `aesp pki issue` showed it.
        #[arg(long)]
        serial: String,
    },
}

fn name(text: &str) -> Result<String, String> {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=63).contains(&text.len()) && text.chars().all(ordinary) && !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    Err("use 1 to 63 letters, digits, `-`, `_` or `.`".into())
}

impl Pki {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        let folder = config::load(ctx, Vec::new())?.node.data_dir.join("pki");
        let (now, entropy) = (SystemClock.now(), Entropy::from_system());
        let authority = Authority::open(&folder, &entropy).map_err(explain)?;
        match self {
            Self::Issue { name, runtime, zone, days, out } => {
                let subject = match runtime {
                    Some(id) => Subject::Runtime { id, zone },
                    None => Subject::Administrator(name.clone()),
                };
                issue(ctx, &authority, &subject, &name, &out.unwrap_or(folder), days)
            }
            Self::Node { name, hosts, days, out } => {
                let subject = Subject::node(&name, &hosts);
                issue(ctx, &authority, &subject, &name, &out.unwrap_or(folder), days)
            }
            Self::Revoke { serial } => {
                let added = authority.revoke(&serial, now).map_err(explain)?;
                ctx.console.value(&json!({ "serial": serial, "newly_revoked": added }))
            }
        }
    }
}

fn issue(
    ctx: &Context,
    authority: &Authority,
    subject: &Subject,
    name: &str,
    out: &Path,
    days: u32,
) -> Result<(), Failure> {
    let life = Duration::from_secs(u64::from(days) * 86_400);
    std::fs::create_dir_all(out)?;
    let issued = authority.issue(subject, name, out, SystemClock.now(), life).map_err(explain)?;
    ctx.console.value(&json!({
        "certificate": issued.certificate,
        "key": issued.key,
        "serial": issued.serial,
        "identity": issued.identity,
    }))
}

fn explain(error: Error) -> Failure {
    match error {
        Error::Files { ref source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            Failure::local(error.to_string(), "choose another --name, or --out another folder")
        }
        Error::Serial(_) => Failure::usage(error.to_string(), "take it from aesp pki issue"),
        _ => Failure::local(
            error.to_string(),
            "name the node's configuration with --config; aesp init makes an authority",
        ),
    }
}

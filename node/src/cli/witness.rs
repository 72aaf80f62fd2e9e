//! An independent witness: for another party than the Host's owner, on a machine of its own.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aesp_merkle::{Cosigner, Verifier};
use aesp_witness::Notary;
use aws_lc_rs::{
    encoding::AsBigEndian,
    signature::{Ed25519KeyPair, KeyPair},
};
use clap::Subcommand;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{context::Context, failure::Failure};
use crate::{config, logs, notary::Bound};

/// Cosign the checkpoints of others' logs, as C2SP tlog-witness says: never two histories of one log.
#[derive(Subcommand, Debug)]
pub(crate) enum Witness {
    /// Make the folder and the key of a witness.
    Init {
        /// Where its key and its memory are.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// What its key is called: a name that is the witness's own in the world, such as witness.example/w1.
        #[arg(long)]
        name: String,
    },
    /// Show the public key, which logs put into their configuration.
    Key {
        /// Where its key and its memory are.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Show what the witness remembers of each log.
    Status {
        /// Where its key and its memory are.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Serve until told to stop.
    Run {
        /// Where its key and its memory are.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Where to take HTTPS.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8445")]
        listen: SocketAddr,
        /// The certificate of the listener with its chain, PEM.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its private key, PEM.
        #[arg(long, value_name = "FILE")]
        certificate_key: PathBuf,
        /// The key of a log to look at, as aesp audit platform-log shows it; may be repeated, also for several keys of one log.
        #[arg(long = "log", value_name = "KEY", required = true, value_parser = log_key)]
        logs: Vec<Verifier>,
    },
}

/// The key at rest.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[zeroize(skip)]
    name: String,
    /// Base 64.
    seed: String,
}

fn log_key(text: &str) -> Result<Verifier, String> {
    text.parse().map_err(|error: aesp_merkle::NoteError| error.to_string())
}

impl Witness {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Init { dir, name } => {
                let key = make(&dir, &name)?;
                ctx.console.value(&json!({ "key": key.to_string(), "dir": dir }))
            }
            Self::Key { dir } => ctx.console.value(&json!({ "key": open(&dir)?.0.to_string() })),
            Self::Status { dir } => {
                let text = match fs::read(memory(&dir)) {
                    Ok(bytes) => {
                        serde_json::from_slice(&bytes).map_err(|error| bad(&memory(&dir), &error))?
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
                    Err(error) => return Err(bad(&memory(&dir), &error)),
                };
                ctx.console.value(&json!({ "key": open(&dir)?.0.to_string(), "logs": text }))
            }
            Self::Run { dir, listen, certificate, certificate_key, logs: looked_at } => {
                logs::start(&config::Log::default());
                let (cosigner, pair) = open(&dir)?;
                let name = cosigner.name().to_owned();
                let notary = Notary::open(cosigner, pair, looked_at, &memory(&dir)).map_err(|error| {
                    Failure::local(error.to_string(), "one process has one memory, and only its own")
                })?;
                let bound = Bound::bind(notary, listen, &certificate, &certificate_key).await?;
                let https = bound.address()?;
                tracing::info!(witness = name, %https, "listening");
                let stop = CancellationToken::new();
                let (mut terminate, mut interrupt) =
                    (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
                let told = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                    told.cancel();
                });
                bound.serve(stop).await;
                Ok(())
            }
        }
    }
}

fn key_file(dir: &Path) -> PathBuf {
    dir.join("key.json")
}

fn memory(dir: &Path) -> PathBuf {
    dir.join("memory.json")
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::local(
        format!("{} can't be used: {why}", path.display()),
        "name the folder that aesp witness init made, as its owner",
    )
}

fn cosigner(name: &str, pair: &Ed25519KeyPair) -> Result<Cosigner, Failure> {
    let public = pair.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
    Cosigner::new(name, public).map_err(|_| {
        Failure::usage("a key's name has no spaces and no plus", "name it like witness.example/w1")
    })
}

/// Makes the key in a new folder.
fn make(dir: &Path, name: &str) -> Result<Cosigner, Failure> {
    let unusable = |_| Failure::local("no key can be made", "look at this machine's randomness");
    let pair = Ed25519KeyPair::generate().map_err(unusable)?;
    let key = cosigner(name, &pair)?;
    let seed = pair.seed().map_err(unusable)?;
    let seed = BASE64.encode(seed.as_be_bytes().map_err(unusable)?.as_ref());
    let text = Zeroizing::new(
        serde_json::to_vec(&KeyFile { name: name.to_owned(), seed }).map_err(|error| bad(dir, &error))?,
    );
    let path = key_file(dir);
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error| bad(&path, &error))?;
    Ok(key)
}

fn open(dir: &Path) -> Result<(Cosigner, Ed25519KeyPair), Failure> {
    let path = key_file(dir);
    let bytes = Zeroizing::new(fs::read(&path).map_err(|error| bad(&path, &error))?);
    let file: KeyFile = serde_json::from_slice(&bytes).map_err(|error| bad(&path, &error))?;
    let seed = BASE64.decode(file.seed.as_bytes()).map(Zeroizing::new).map_err(|error| bad(&path, &error))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| bad(&path, &error))?;
    Ok((cosigner(&file.name, &pair)?, pair))
}

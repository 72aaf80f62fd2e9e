use std::path::PathBuf;

use aesp_proto::SystemClock;
use clap::Subcommand;
use serde_json::json;

use super::{context::Context, failure::Failure};
use crate::{
    cluster::check_files,
    config::{self, DEFAULT_FILE, Sources},
    tls::Material,
};

/// Looked for when no file is named: of one's own, then as `aesp init` makes it.
const USUAL_FILES: [&str; 2] = ["aesp.toml", "aesp-data/aesp.toml"];

#[derive(Subcommand, Debug)]
pub(crate) enum Config {
    /// Check the configuration and the files that it names.
    Check,
    /// Show what a node would use, from file and variables.
    Show,
    /// Print a configuration file with every default.
    Default,
}

impl Config {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Default => ctx.console.value(&DEFAULT_FILE.trim_end().into()),
            Self::Show => {
                let config = load(ctx, Vec::new())?;
                match toml::to_string(&config) {
                    Ok(text) if ctx.console.format == super::console::Format::Table => {
                        ctx.console.value(&text.trim_end().into())
                    }
                    _ => ctx.console.value(&json!(config)),
                }
            }
            Self::Check => {
                let config = load(ctx, Vec::new())?;
                let clock: std::sync::Arc<dyn aesp_proto::Clock> = std::sync::Arc::new(SystemClock);
                Material::load(&config.tls, &clock)?;
                let cluster =
                    if check_files(&config, &clock)? { "usable" } else { "none: the node is alone" };
                ctx.console.value(&json!({ "configuration": "valid", "tls": "usable", "cluster": cluster }))
            }
        }
    }
}

/// Loads the configuration of this machine's node: the named file or the usual one, variables, flags.
pub(crate) fn load(ctx: &Context, flags: Vec<(String, String, String)>) -> Result<config::Config, Failure> {
    let usual = || USUAL_FILES.iter().map(PathBuf::from).find(|file| file.exists());
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let sources = Sources { file: ctx.config.clone().or_else(usual), environment, flags };
    Ok(config::load(&sources)?)
}

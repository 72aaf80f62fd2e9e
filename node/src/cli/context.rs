use std::path::PathBuf;

use aesp_sdk::{Client, Credentials, Endpoint, Tls};
use clap::Args;
use prost::Message;
use tonic::Response;

use super::{
    console::{Console, Format},
    failure::Failure,
    profile::Profile,
};
use crate::Build;

const USUAL_ENDPOINT: &str = "https://localhost:9443";
const USUAL_CA: &str = "aesp-data/pki/ca.pem";

/// What every command takes.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// The form of the answer.
    #[arg(long, short, global = true, value_enum, default_value_t, env = "AESP_OUTPUT")]
    pub(crate) output: Format,
    /// The configuration file of the node [default: aesp.toml or aesp-data/aesp.toml, where one exists].
    #[arg(long, global = true, env = "AESP_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The nodes to speak to, separated by commas [default: https://localhost:9443].
    #[arg(long, global = true, env = "AESP_ENDPOINT", value_name = "URL", help_heading = "Connection")]
    endpoint: Option<String>,
    /// The authority of the nodes' certificates, PEM [default: aesp-data/pki/ca.pem].
    #[arg(long, global = true, env = "AESP_CA", value_name = "FILE", help_heading = "Connection")]
    ca: Option<PathBuf>,
    /// An API key or access token. Prefer the variable or aesp login: other users may see the command line.
    #[arg(long, global = true, env = "AESP_API_KEY", hide_env_values = true, help_heading = "Connection")]
    token: Option<String>,
    /// A client certificate instead, PEM.
    #[arg(long, global = true, env = "AESP_CLIENT_CERT", value_name = "FILE", help_heading = "Connection")]
    client_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, global = true, env = "AESP_CLIENT_KEY", value_name = "FILE", help_heading = "Connection")]
    client_key: Option<PathBuf>,
    /// The tenant that the command is about, by name or id [default: the caller's own].
    #[arg(long, short = 't', global = true, env = "AESP_TENANT", help_heading = "Connection")]
    tenant: Option<String>,
    /// Where aesp login remembers these [default: ~/.config/aesp/profile.toml].
    #[arg(long, global = true, env = "AESP_PROFILE", value_name = "FILE", help_heading = "Connection")]
    profile: Option<PathBuf>,
}

/// What a command works with.
pub(crate) struct Context {
    pub(crate) console: Console,
    pub(crate) build: Build,
    pub(crate) config: Option<PathBuf>,
    pub(crate) profile_path: Option<PathBuf>,
    /// The tenant that a flag or variable names; not the remembered one.
    pub(crate) named_tenant: Option<String>,
    /// Flags and variables over the remembered profile.
    pub(crate) profile: Profile,
}

impl Context {
    pub(crate) fn new(global: Global, build: Build) -> Result<Self, Failure> {
        let profile_path = global.profile.or_else(Profile::place);
        let remembered = profile_path.as_deref().map(Profile::read).transpose()?.unwrap_or_default();
        let named_tenant = global.tenant.clone();
        let profile = Profile {
            endpoint: global.endpoint.or(remembered.endpoint),
            ca: global.ca.or(remembered.ca),
            token: global.token.or(remembered.token),
            client_cert: global.client_cert.or(remembered.client_cert),
            client_key: global.client_key.or(remembered.client_key),
            tenant: global.tenant.or(remembered.tenant),
        };
        let console = Console { format: global.output };
        Ok(Self { console, build, config: global.config, profile_path, named_tenant, profile })
    }

    /// Returns the tenant that was named, or nothing for the caller's own.
    pub(crate) fn tenant(&self) -> String {
        self.profile.tenant.clone().unwrap_or_default()
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>, Failure> {
        let text = self.profile.endpoint.as_deref().unwrap_or(USUAL_ENDPOINT);
        Ok(text.split(',').map(|one| one.trim().parse()).collect::<Result<_, _>>()?)
    }

    pub(crate) fn tls(&self) -> Result<Tls, Failure> {
        let ca = self.profile.ca.clone().unwrap_or_else(|| USUAL_CA.into());
        let identity = match (&self.profile.client_cert, &self.profile.client_key) {
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (None, None) => None,
            _ => {
                return Err(Failure::usage(
                    "a client certificate and its key go together",
                    "give --client-cert and --client-key",
                ));
            }
        };
        Ok(Tls::from_files(ca, identity)?)
    }

    /// Returns a client; nothing is sent yet.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let credentials = match &self.profile.token {
            Some(token) if token.starts_with("aesp_") => Credentials::ApiKey(token.as_str().into()),
            Some(token) => Credentials::Token(token.as_str().into()),
            None => Credentials::Certificate,
        };
        let builder = Client::builder(self.tls()?).endpoints(self.endpoints()?).credentials(credentials);
        Ok(builder.build()?)
    }

    /// Shows an answer of the Host.
    pub(crate) fn show<M: Message>(&self, name: &str, answer: Response<M>) -> Result<(), Failure> {
        self.console.one(name, answer.get_ref())
    }

    /// Shows a listing of the Host: of each item the named fields.
    pub(crate) fn show_list<M: Message>(
        &self,
        name: &str,
        answer: Response<M>,
        items: &str,
        columns: &[&str],
    ) -> Result<(), Failure> {
        self.console.list(name, answer.get_ref(), items, columns)
    }
}

use std::{path::PathBuf, sync::Arc, time::Duration};

use aesp_sdk::{Client, Credentials, Endpoint, Retry, Tls};

const CONNECT: Duration = Duration::from_secs(2);

/// How a cluster is reached, and by whom it is administered. Cheap enough to clone.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) endpoints: Vec<Endpoint>,
    /// The authority of the nodes' certificates, PEM.
    pub(crate) ca: PathBuf,
    /// The platform administrator's.
    pub(crate) api_key: String,
    /// The command `aesp`, for what is checked offline.
    pub(crate) binary: PathBuf,
}

impl Access {
    /// Returns a client that prefers the node `first` (from 0, modulo their number) and never repeats a request by itself: what
    /// is repeated is the workload's to decide, and to record.
    pub(crate) fn client(&self, credentials: Credentials, first: usize) -> anyhow::Result<Client> {
        let mut endpoints = self.endpoints.clone();
        let by = first % endpoints.len().max(1);
        endpoints.rotate_left(by);
        let client = Client::builder(Tls::from_files(&self.ca, None)?)
            .endpoints(endpoints)
            .credentials(credentials)
            .connect_timeout(CONNECT)
            .retry(Retry::NEVER);
        Ok(client.build()?)
    }

    /// Returns one client for each node, the one that prefers `first` first.
    pub(crate) fn clients(&self, credentials: &Credentials, first: usize) -> anyhow::Result<Arc<[Client]>> {
        (0..self.endpoints.len()).map(|n| self.client(credentials.clone(), first + n)).collect()
    }

    /// Returns a client of the platform's administrator.
    pub(crate) fn administrator(&self) -> anyhow::Result<Client> {
        self.client(Credentials::ApiKey(self.api_key.as_str().into()), 0)
    }

    /// Returns the command `aesp`, told where the cluster is, as its administrator, with JSON output.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.binary);
        command
            .env("AESP_API_KEY", &self.api_key)
            .env("AESP_CA", &self.ca)
            .env("AESP_OUTPUT", "json")
            .env("AESP_PROFILE", "/nonexistent/no-profile.toml")
            .kill_on_drop(true);
        if let Some(first) = self.endpoints.first() {
            command.env("AESP_ENDPOINT", first.to_string());
        }
        command
    }
}

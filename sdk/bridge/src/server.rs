//! One MCP server: a child process and the client that speaks to it.

use std::{sync::Arc, time::Duration};

use rmcp::{
    ClientHandler,
    model::{ClientConfig, Implementation, Tool},
    service::{
        ClientLifecycleMode, NotificationContext, Peer, QuitReason, RoleClient,
        serve_client_with_lifecycle_and_ct,
    },
    transport::TokioChildProcess,
};
use tokio::{
    sync::Notify,
    task::{JoinError, JoinHandle},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use crate::{Error, command::McpCommand, stderr};

/// How long a server may take to introduce itself and to list its tools.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A server that runs. Dropping it stops it.
pub(crate) struct Server {
    peer: Peer<RoleClient>,
    changed: Arc<Notify>,
    ended: JoinHandle<Result<QuitReason, JoinError>>,
    stop: DropGuard,
    program: String,
}

/// What happens to a server by itself.
pub(crate) enum Event {
    /// It says that it has other tools now.
    ToolsChanged,
    /// Its process ended, or it closed its end of the line.
    Ended,
}

/// Hears what the server says of its own accord.
struct Listener {
    changed: Arc<Notify>,
}

impl ClientHandler for Listener {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.client_info = Implementation::new("aesp-bridge", env!("CARGO_PKG_VERSION"));
        config
    }
}

impl Server {
    /// Starts the server and waits until it has introduced itself.
    pub(crate) async fn start(command: &McpCommand) -> Result<Self, Error> {
        let program = command.program.clone();
        let (child, errors) = TokioChildProcess::builder(command.to_group())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|source| Error::Spawn { program: program.clone(), source })?;
        debug!(program, pid = child.id(), "mcp server started");
        if let Some(errors) = errors {
            tokio::spawn(stderr::log(errors, program.clone()));
        }
        let changed = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let handshake = serve_client_with_lifecycle_and_ct(
            Listener { changed: Arc::clone(&changed) },
            child,
            ClientLifecycleMode::Initialize,
            stop.clone(),
        );
        let service = timeout(START_LIMIT, handshake)
            .await
            .map_err(|_| Error::Silent { program: program.clone(), limit: START_LIMIT })?
            .map_err(|source| Error::Handshake { program: program.clone(), source: Box::new(source) })?;
        let peer = service.peer().clone();
        Ok(Self { peer, changed, ended: tokio::spawn(service.waiting()), stop: stop.drop_guard(), program })
    }

    pub(crate) fn peer(&self) -> Peer<RoleClient> {
        self.peer.clone()
    }

    /// Returns the tools that it has now.
    pub(crate) async fn tools(&self) -> Result<Vec<Tool>, Error> {
        timeout(START_LIMIT, self.peer.list_all_tools())
            .await
            .map_err(|_| Error::Silent { program: self.program.clone(), limit: START_LIMIT })?
            .map_err(|source| Error::List { program: self.program.clone(), source })
    }

    /// Waits until its tools have changed or it has ended; not to be asked again after the end.
    pub(crate) async fn next(&mut self) -> Event {
        let ended = tokio::select! {
            ended = &mut self.ended => ended,
            () = self.changed.notified() => return Event::ToolsChanged,
        };
        match ended {
            Ok(Ok(reason)) => debug!(program = self.program, ?reason, "mcp server ended"),
            Ok(Err(error)) | Err(error) => warn!(program = self.program, %error, "mcp client broke"),
        }
        Event::Ended
    }

    /// Stops it: closes its standard input, sends SIGTERM after 3 seconds and SIGKILL after 3 more (as the MCP
    /// specification asks of stdio clients), and waits until it is gone.
    pub(crate) async fn stop(mut self) {
        drop(self.stop);
        if !self.ended.is_finished() {
            drop((&mut self.ended).await);
        }
    }
}

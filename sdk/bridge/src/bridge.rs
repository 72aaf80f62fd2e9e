use std::{collections::BTreeMap, time::Duration};

use aesp_proto::Entropy;
use aesp_sdk::{CallContext, Runtime, RuntimeBuilder, RuntimeHandle, Tool, ToolFailure};
use rmcp::{
    model::CallToolRequestParams,
    service::{Peer, RoleClient},
};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    Error,
    command::McpCommand,
    convert,
    selection::Selection,
    server::{Event, Server},
};

/// How long a call waits for a server that is being started again.
const RESTART_WAIT: Duration = Duration::from_secs(5);

/// What is bridged, and how.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// How the MCP server is started.
    pub command: McpCommand,
    /// Which of its tools are offered, and by which names.
    pub selection: Selection,
    /// The pause before a server that ended is started again; doubled each time it does not last.
    pub restart_base: Duration,
    /// The longest such pause. A server that lasted longer starts from the shortest again.
    pub restart_longest: Duration,
    /// The source of jitter.
    pub entropy: Entropy,
}

impl BridgeOptions {
    /// Bridges all tools of a server by their own names.
    #[must_use]
    pub fn new(command: McpCommand) -> Self {
        Self {
            command,
            selection: Selection::default(),
            restart_base: Duration::from_millis(200),
            restart_longest: Duration::from_secs(30),
            entropy: Entropy::from_system(),
        }
    }
}

/// A Runtime whose tools are those of an MCP server that runs as a child process.
pub struct Bridge {
    runtime: Runtime,
    supervisor: Supervisor,
    server: Server,
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("options", &self.supervisor.options).finish_non_exhaustive()
    }
}

/// The server's present end of the line, for the handlers; none while it is being started again.
type Line = watch::Receiver<Option<Peer<RoleClient>>>;

struct Supervisor {
    options: BridgeOptions,
    handle: RuntimeHandle,
    line: watch::Sender<Option<Peer<RoleClient>>>,
    offered: BTreeMap<String, String>,
}

impl Bridge {
    /// Starts the server, and adds its tools to the description of the Runtime.
    ///
    /// # Errors
    /// Any of [`Error`]: the server does not start, has not the tools of the include list, or the description is incomplete.
    pub async fn start(options: BridgeOptions, runtime: RuntimeBuilder) -> Result<Self, Error> {
        let server = Server::start(&options.command).await?;
        let tools = server.tools().await?;
        if let Some(tool) = options.selection.missing(&tools) {
            let program = options.command.program.clone();
            return Err(Error::UnknownTool { program, tool: tool.to_owned() });
        }
        let offered = options.selection.apply(&tools);
        info!(program = options.command.program, tools = offered.len(), "mcp server is bridged");
        let line = watch::Sender::new(Some(server.peer()));
        let runtime = runtime
            .tools(offered.iter().map(|(name, original)| tool(name, original, line.subscribe())))
            .metadata("bridge", "mcp")
            .build()?;
        let supervisor = Supervisor { options, handle: runtime.handle(), line, offered };
        Ok(Self { runtime, supervisor, server })
    }

    /// Returns the handle of the Runtime: drain it to end the bridge.
    #[must_use]
    pub fn handle(&self) -> RuntimeHandle {
        self.runtime.handle()
    }

    /// Serves until the Runtime is drained, then stops the server. A server that ends is started again.
    ///
    /// # Errors
    /// The Host's refusal, as of [`Runtime::run`].
    pub async fn run(self) -> Result<(), Error> {
        let Self { runtime, supervisor, server } = self;
        let stop = CancellationToken::new();
        let stopping = stop.clone().drop_guard();
        let serving = async {
            let outcome = runtime.run().await;
            drop(stopping);
            outcome
        };
        let (outcome, ()) = tokio::join!(serving, supervisor.supervise(server, stop));
        outcome.map_err(Error::from)
    }
}

impl Supervisor {
    /// Keeps a server running until told to stop, and the offered tools in step with it.
    async fn supervise(mut self, mut server: Server, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            if !self.attend(&mut server, &stop).await {
                self.line.send_replace(None);
                server.stop().await;
                return;
            }
            self.line.send_replace(None);
            warn!(program = self.options.command.program, "mcp server ended, it is started again");
            let lasted = started.elapsed() >= self.options.restart_longest;
            tokio::select! {
                again = self.restart(lasted) => server = again,
                () = stop.cancelled() => return,
            }
        }
    }

    /// Attends to a server that runs; returns whether it ended by itself.
    async fn attend(&mut self, server: &mut Server, stop: &CancellationToken) -> bool {
        loop {
            let event = tokio::select! {
                () = stop.cancelled() => return false,
                event = server.next() => event,
            };
            if matches!(event, Event::Ended) {
                return true;
            }
            if let Err(error) = self.synchronise(server).await {
                warn!(%error, "the changed tools could not be listed");
            }
        }
    }

    async fn restart(&mut self, lasted: bool) -> Server {
        let mut failures = u32::from(!lasted);
        loop {
            sleep(self.pause(failures)).await;
            let attempt = async {
                let server = Server::start(&self.options.command).await?;
                self.synchronise(&server).await?;
                Ok::<_, Error>(server)
            };
            match attempt.await {
                Ok(server) => {
                    self.line.send_replace(Some(server.peer()));
                    return server;
                }
                Err(error) => {
                    warn!(%error, failures, "mcp server could not be started again");
                    self.withdraw_all();
                    failures += 1;
                }
            }
        }
    }

    /// Returns between half and all of the pause that is due, so that many bridges do not start at once.
    fn pause(&self, failures: u32) -> Duration {
        let full =
            self.options.restart_base.saturating_mul(1 << failures.min(20)).min(self.options.restart_longest);
        let half = full / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(self.options.entropy.below(spread))
    }

    /// Offers what the server has now and withdraws what it has no longer.
    async fn synchronise(&mut self, server: &Server) -> Result<(), Error> {
        let now = self.options.selection.apply(&server.tools().await?);
        let gone: Vec<_> = self.offered.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        let new: Vec<_> = now
            .iter()
            .filter(|(name, _)| !self.offered.contains_key(*name))
            .map(|(name, original)| tool(name, original, self.line.subscribe()))
            .collect();
        if !gone.is_empty() {
            info!(tools = ?gone, "the mcp server has these tools no longer");
            self.handle.withdraw(&gone, "the MCP server no longer has them");
        }
        if !new.is_empty() {
            self.handle.offer(new);
        }
        self.offered = now;
        Ok(())
    }

    fn withdraw_all(&mut self) {
        let all: Vec<_> = std::mem::take(&mut self.offered).into_keys().collect();
        if !all.is_empty() {
            self.handle.withdraw(&all, "the MCP server does not start");
        }
    }
}

/// Makes the tool that passes calls on to the server.
fn tool(name: &str, original: &str, line: Line) -> Tool {
    let original = original.to_owned();
    Tool::new(name, move |context, args| call(context, original.clone(), args, line.clone()))
}

/// Passes a call on. When the future is dropped, the server hears that the call was cancelled.
async fn call(
    context: CallContext,
    original: String,
    args: Value,
    mut line: Line,
) -> Result<Value, ToolFailure> {
    let Value::Object(args) = args else {
        return Err(ToolFailure::of_type(
            ToolFailure::SCHEMA_VIOLATION,
            "the arguments of a tool are a JSON object",
        ));
    };
    let unavailable = || {
        ToolFailure::of_type(
            ToolFailure::UNAVAILABLE,
            "the MCP server is being started again; the tool did not run",
        )
    };
    let up = timeout(RESTART_WAIT, line.wait_for(Option::is_some)).await;
    let peer = up.ok().and_then(Result::ok).and_then(|peer| peer.clone()).ok_or_else(unavailable)?;
    tracing::debug!(tool = original, dispatch = %context.dispatch_id, "call is passed to the mcp server");
    let request = CallToolRequestParams::new(original).with_arguments(args);
    peer.call_tool(request).await.map_err(|error| convert::failure(&error)).and_then(convert::result)
}

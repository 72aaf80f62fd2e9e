use aesp_bridge::{Bridge, BridgeOptions, McpCommand, Selection};
use aesp_proto::v1;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use super::{context::Context, failure::Failure, page::Page};
use crate::{
    config::{Log, LogFormat},
    logs,
};

const CONNECTED: &[&str] =
    &["runtime_id", "connection_id", "state", "outstanding", "credits", "tools", "connected_at_ms"];
const REGISTERED: &[&str] =
    &["runtime_id", "certificate_identity", "tenant_ids", "contracts", "security_zones", "revoked"];

#[derive(Subcommand, Debug)]
pub(crate) enum Runtime {
    /// Run an MCP server as a Runtime: its tools are offered, the Host governs every call.
    Mcp(Mcp),
    /// Say which certificate may serve which tenants and contracts.
    Register {
        runtime_id: String,
        /// The SPIFFE id or DNS name in its certificate.
        #[arg(long)]
        identity: String,
        /// May be repeated.
        #[arg(long = "serves", value_name = "TENANT", required = true)]
        tenant_ids: Vec<String>,
        /// A contract's name, or `*`; may be repeated.
        #[arg(long = "contract", default_value = "*")]
        contracts: Vec<String>,
        /// May be repeated.
        #[arg(long = "zone")]
        security_zones: Vec<String>,
    },
    /// List the Runtimes that are connected.
    List,
    /// List who may connect.
    Registrations(Page),
    /// End a registration and close its connections.
    Revoke { runtime_id: String },
    /// Tell a connected Runtime to finish its calls and leave.
    Drain {
        runtime_id: String,
        #[arg(long, default_value = "asked by an operator")]
        reason: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Mcp {
    /// The id that it was registered with.
    #[arg(long)]
    runtime_id: String,
    /// The security zone that it claims.
    #[arg(long)]
    zone: Option<String>,
    /// Put before each tool's name, for example `git_`.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Offer only this tool of the server; may be repeated.
    #[arg(long)]
    include: Vec<String>,
    /// Calls at once.
    #[arg(long, default_value_t = 64)]
    concurrency: u32,
    /// A variable of ours that the server may see; may be repeated.
    #[arg(long)]
    inherit: Vec<String>,
    /// The server's command line.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Runtime {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        if let Self::Mcp(mcp) = self {
            return Box::pin(mcp.run(ctx)).await;
        }
        let mut runtimes = ctx.client()?.runtimes();
        match self {
            Self::Register {
                runtime_id,
                identity: certificate_identity,
                tenant_ids,
                contracts,
                security_zones,
            } => {
                let request = v1::RegisterRuntimeRequest {
                    runtime_id,
                    certificate_identity,
                    tenant_ids,
                    contracts,
                    security_zones,
                };
                ctx.show("RuntimeRegistration", runtimes.register_runtime(request).await?)
            }
            Self::List => {
                let request = v1::ListRuntimesRequest { tenant_id: ctx.tenant() };
                let answer = runtimes.list_runtimes(request).await?;
                ctx.show_list("ListRuntimesResponse", answer, "runtimes", CONNECTED)
            }
            Self::Registrations(page) => {
                let request = v1::ListRuntimeRegistrationsRequest { page: page.into() };
                let answer = runtimes.list_runtime_registrations(request).await?;
                ctx.show_list("ListRuntimeRegistrationsResponse", answer, "registrations", REGISTERED)
            }
            Self::Revoke { runtime_id } => {
                let request = v1::RevokeRuntimeRequest { runtime_id };
                ctx.show("RevokeRuntimeResponse", runtimes.revoke_runtime(request).await?)
            }
            Self::Drain { runtime_id, reason } => {
                let request = v1::DrainRuntimeRequest { runtime_id, reason };
                ctx.show("DrainRuntimeResponse", runtimes.drain_runtime(request).await?)
            }
            Self::Mcp(_) => unreachable!("handled above"),
        }
    }
}

impl Mcp {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        logs::start(&Log { level: "info".into(), format: LogFormat::Text });
        let mut command = McpCommand::new(self.command).map_err(aesp_proto::Error::from)?;
        command.inherit = self.inherit;
        let mut options = BridgeOptions::new(command);
        options.selection = Selection { prefix: self.prefix, include: self.include };
        let mut runtime = aesp_sdk::Runtime::builder(self.runtime_id, ctx.tls()?)
            .endpoints(ctx.endpoints()?)
            .concurrency(self.concurrency);
        if let Some(zone) = self.zone {
            runtime = runtime.security_zone(zone);
        }
        if let Some(tenant) = ctx.profile.tenant.clone() {
            runtime = runtime.tenant(tenant);
        }
        let bridge = Bridge::start(options, runtime).await.map_err(aesp_proto::Error::from)?;
        let handle = bridge.handle();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            handle.drain("asked to stop");
        });
        Ok(Box::pin(bridge.run()).await.map_err(aesp_proto::Error::from)?)
    }
}

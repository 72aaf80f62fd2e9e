use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, page::Page};

const COLUMNS: &[&str] =
    &["session_id", "principal_id", "status", "calls_in_flight", "created_at_ms", "expires_at_ms"];
const TOOL_COLUMNS: &[&str] = &["name", "version", "effects", "risk", "available", "description"];

#[derive(Subcommand, Debug)]
pub(crate) enum Session {
    /// Open a session as the caller.
    Create {
        /// How long it lives unless it is renewed.
        #[arg(long, default_value_t = 3_600)]
        ttl_seconds: u32,
    },
    /// List sessions: the caller's own, or with --tenant all of the tenant.
    List(Page),
    /// Show one.
    Show { session: String },
    /// List the tools that may be called in it now.
    Tools {
        session: String,
        #[command(flatten)]
        page: Page,
    },
    /// Extend its life by its time to live.
    Renew { session: String },
    /// End it.
    Destroy {
        session: String,
        /// Cancel the calls that run.
        #[arg(long)]
        force: bool,
    },
}

impl Session {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut agent = ctx.client()?.agent();
        let session = match self {
            Self::Create { ttl_seconds } => {
                let request = v1::CreateSessionRequest { ttl_seconds, ..Default::default() };
                agent.create_session(request).await?
            }
            Self::Show { session: session_id } => {
                agent.get_session(v1::GetSessionRequest { session_id }).await?
            }
            Self::Renew { session: session_id } => {
                agent.renew_session(v1::RenewSessionRequest { session_id }).await?
            }
            Self::List(page) => {
                let request = v1::ListSessionsRequest { tenant_id: ctx.tenant(), page: page.into() };
                let answer = agent.list_sessions(request).await?;
                return ctx.show_list("ListSessionsResponse", answer, "sessions", COLUMNS);
            }
            Self::Tools { session: session_id, page } => {
                let answer = agent.list_tools(v1::ListToolsRequest { session_id, page: page.into() }).await?;
                return ctx.show_list("ListToolsResponse", answer, "tools", TOOL_COLUMNS);
            }
            Self::Destroy { session: session_id, force } => {
                let answer = agent.destroy_session(v1::DestroySessionRequest { session_id, force }).await?;
                return ctx.show("DestroySessionResponse", answer);
            }
        };
        ctx.show("Session", session)
    }
}

use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, page::Page};

const COLUMNS: &[&str] = &["name", "kind", "target", "lag_ms", "trouble"];
const DEAD_COLUMNS: &[&str] = &["event_id", "at_ms", "reason"];

/// Where audit events are sent as they happen.
#[derive(Subcommand, Debug)]
pub(crate) enum AuditSink {
    /// List the sinks, how far they lag, and what is wrong.
    List,
    /// Show one sink, and how it fares at each node.
    Status {
        /// As aesp audit sink list shows it.
        name: String,
    },
    /// Send one event, and show what the sink says.
    Test {
        /// As aesp audit sink list shows it.
        name: String,
    },
    /// List the events that the sink refused for good.
    DeadLetters {
        /// As aesp audit sink list shows it.
        name: String,
        #[command(flatten)]
        page: Page,
    },
    /// Send them again; what the sink takes now is no dead letter any more.
    Retry {
        /// As aesp audit sink list shows it.
        name: String,
    },
}

impl AuditSink {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut sinks = ctx.client()?.audit_sinks();
        match self {
            Self::List => {
                let answer = sinks.list_audit_sinks(v1::ListAuditSinksRequest {}).await?;
                ctx.show_list("ListAuditSinksResponse", answer, "sinks", COLUMNS)
            }
            Self::Status { name } => {
                ctx.show("AuditSink", sinks.get_audit_sink(v1::GetAuditSinkRequest { name }).await?)
            }
            Self::Test { name } => {
                let answer = sinks.test_audit_sink(v1::TestAuditSinkRequest { name: name.clone() }).await?;
                let told = answer.get_ref().clone();
                ctx.show("TestAuditSinkResponse", answer)?;
                if told.taken {
                    return Ok(());
                }
                let message = format!("{name} did not take the event: {}: {}", told.cause, told.trouble);
                Err(Failure::local(message, "docs/audit-sinks.md says what to do for each cause"))
            }
            Self::DeadLetters { name, page } => {
                let tenant_id = ctx.tenant();
                let request = v1::ListAuditDeadLettersRequest { name, tenant_id, page: page.into() };
                let answer = sinks.list_audit_dead_letters(request).await?;
                ctx.show_list("ListAuditDeadLettersResponse", answer, "dead_letters", DEAD_COLUMNS)
            }
            Self::Retry { name } => {
                let request = v1::RetryAuditDeadLettersRequest { name, tenant_id: ctx.tenant() };
                ctx.show("RetryAuditDeadLettersResponse", sinks.retry_audit_dead_letters(request).await?)
            }
        }
    }
}

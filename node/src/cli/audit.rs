use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use aesp_proto::v1;
use clap::{Args, Subcommand, ValueEnum};

use super::{
    audit_sink::AuditSink, context::Context, failure::Failure, page::Page, progress, verify::Verify,
};

const COLUMNS: &[&str] =
    &["timestamp_ms", "event_type", "action", "outcome", "principal_id", "resource", "reason", "event_id"];

#[derive(Subcommand, Debug)]
pub(crate) enum Audit {
    /// Find events.
    Query(Box<Query>),
    /// Write the whole log of a tenant with its proofs, as JSON Lines.
    Export {
        /// `-` for standard output.
        #[arg(long = "file", short = 'f', value_name = "FILE")]
        file: PathBuf,
    },
    /// Check an export offline: name the first event that was changed, removed, inserted or moved.
    Verify(Verify),
    /// Where events are sent as they happen.
    #[command(subcommand)]
    Sink(AuditSink),
}

#[derive(Args, Debug)]
pub(crate) struct Query {
    /// From this time on, in milliseconds since 1970.
    #[arg(long, default_value_t = 0)]
    start_ms: i64,
    /// Before this time; 0 for no end.
    #[arg(long, default_value_t = 0)]
    end_ms: i64,
    /// For example TOOL_INVOCATION; may be repeated.
    #[arg(long = "type", value_parser = event_type)]
    types: Vec<v1::EventType>,
    #[arg(long, default_value = "", hide_default_value = true)]
    principal: String,
    #[arg(long, default_value = "", hide_default_value = true)]
    session: String,
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// For example tenant.create.
    #[arg(long, default_value = "", hide_default_value = true)]
    action: String,
    /// Newest first.
    #[arg(long)]
    newest_first: bool,
    #[command(flatten)]
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    Success,
    Failure,
    Denied,
}

fn event_type(text: &str) -> Result<v1::EventType, String> {
    let name = text.to_uppercase().replace('-', "_");
    v1::EventType::from_str_name(&name).ok_or_else(|| "no such type; TOOL_INVOCATION is one".into())
}

impl Audit {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Query(query) => query.run(ctx).await,
            Self::Export { file } => export(ctx, &file).await,
            Self::Verify(verify) => verify.run(ctx),
            Self::Sink(sink) => sink.run(ctx).await,
        }
    }
}

impl Query {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let outcome = match self.outcome {
            None => v1::Outcome::Unspecified,
            Some(Outcome::Success) => v1::Outcome::Success,
            Some(Outcome::Failure) => v1::Outcome::Failure,
            Some(Outcome::Denied) => v1::Outcome::Denied,
        };
        let request = v1::QueryEventsRequest {
            tenant_id: ctx.tenant(),
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            event_types: self.types.into_iter().map(i32::from).collect(),
            principal_id: self.principal,
            session_id: self.session,
            outcome: outcome.into(),
            action: self.action,
            page: self.page.into(),
            newest_first: self.newest_first,
        };
        let answer = ctx.client()?.audit().query_events(request).await?;
        ctx.show_list("QueryEventsResponse", answer, "events", COLUMNS)
    }
}

async fn export(ctx: &Context, path: &Path) -> Result<(), Failure> {
    let request = v1::ExportAuditLogsRequest { tenant_id: ctx.tenant() };
    let mut parts = ctx.client()?.audit().export_audit_logs(request).await?.into_inner();
    let to_file = path != Path::new("-");
    // Whole or not at all: a partial export would verify as a truncated log.
    let draft = path.with_extension("part");
    let mut out: Box<dyn Write + Send> = if to_file {
        Box::new(BufWriter::new(File::create(&draft).map_err(|error| unwritable(&draft, &error))?))
    } else {
        Box::new(io::stdout())
    };
    let bar = progress::bytes("exported", None);
    let mut written: u64 = 0;
    while let Some(part) = parts.message().await? {
        out.write_all(&part.json_lines).map_err(|error| unwritable(path, &error))?;
        written += part.json_lines.len() as u64;
        bar.set_position(written);
    }
    out.flush().map_err(|error| unwritable(path, &error))?;
    drop(out);
    bar.finish_and_clear();
    if to_file {
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, path).map_err(|error| unwritable(path, &error))?;
        return ctx.console.value(&serde_json::json!({ "file": path, "bytes": written }));
    }
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::local(format!("can't write {}: {error}", path.display()), "name another place with --file")
}

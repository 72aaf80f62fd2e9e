use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use aesp_proto::v1;
use aesp_sdk::{CallResult, StreamPart};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{context::Context, failure::Failure, receipt};

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Call {
    #[command(subcommand)]
    after: Option<After>,
    #[command(flatten)]
    make: Option<Make>,
}

/// Call a tool.
#[derive(Args, Debug)]
struct Make {
    /// The tool's name.
    tool: String,
    /// The session to call it in.
    #[arg(long, short)]
    session: String,
    /// Its arguments, a JSON object.
    #[arg(long, default_value = "{}")]
    args: String,
    /// The contract's version; the active one unless given.
    #[arg(long)]
    contract: Option<String>,
    /// Under this id the call runs once, however often it is sent.
    #[arg(long)]
    invocation_id: Option<String>,
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// Show the parts as they come.
    #[arg(long)]
    stream: bool,
    /// Add the signed receipt of the answer to this file, for: aesp audit verify-receipt.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum After {
    /// Show the recorded outcome of a call.
    Outcome {
        #[arg(long, short)]
        session: String,
        invocation_id: String,
    },
    /// Cancel a call.
    Cancel {
        #[arg(long, short)]
        session: String,
        invocation_id: String,
    },
    /// Settle a call whose outcome is unknown.
    Resolve {
        #[arg(long, short)]
        session: String,
        invocation_id: String,
        /// What became of it: `cancelled` means that it never ran.
        #[arg(long = "as", value_enum)]
        status: Settled,
        /// How it was found out, for the record.
        #[arg(long)]
        justification: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Settled {
    Succeeded,
    Failed,
    Cancelled,
}

impl Call {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        match (self.after, self.make) {
            (Some(after), _) => after.run(ctx).await,
            (None, Some(make)) => make.run(ctx).await,
            (None, None) => {
                Err(Failure::usage("no tool is named", "aesp call TOOL --session ID --args '{}'"))
            }
        }
    }
}

impl Make {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let args: Value = serde_json::from_str(&self.args).map_err(|error| {
            Failure::usage(
                format!("--args is not JSON: {error}"),
                "quote it for the shell: --args '{\"a\": 1}'",
            )
        })?;
        let session = ctx.client()?.resume(&self.session).await?;
        let mut call = session.call(self.tool, args);
        if let Some(version) = self.contract {
            call = call.version(version);
        }
        if let Some(id) = self.invocation_id {
            call = call.with_invocation_id(id);
        }
        if let Some(limit) = self.timeout_ms {
            call = call.timeout(Duration::from_millis(limit));
        }
        if !self.stream {
            return show(ctx, call.send().await?, self.receipt.as_deref());
        }
        let mut parts = call.stream().await?;
        while let Some(part) = parts.next().await? {
            match part {
                StreamPart::Chunk(chunk) => ctx.console.value(&json!({ "chunk": chunk }))?,
                StreamPart::End(result) => return show(ctx, result, self.receipt.as_deref()),
            }
        }
        Ok(())
    }
}

fn show(ctx: &Context, result: CallResult, keep: Option<&Path>) -> Result<(), Failure> {
    let CallResult { invocation_id, correlation_id, event_id, replayed, outcome, receipt: signed } = result;
    let (status, content) = match &outcome {
        Ok(content) => ("SUCCESS", content.clone()),
        Err(failure) => ("ERROR", json!({ "type": failure.kind(), "message": failure.message() })),
    };
    ctx.console.value(&json!({
        "invocation_id": invocation_id,
        "correlation_id": correlation_id,
        "event_id": event_id,
        "replayed": replayed,
        "status": status,
        "result": content,
    }))?;
    // The answer is shown even if its receipt can't be kept.
    match (keep, &signed) {
        (Some(file), Some(signed)) => receipt::keep(file, signed)?,
        (Some(_), None) => {
            return Err(Failure::local("the Host gave no receipt", "it runs a release without receipts"));
        }
        (None, _) => {}
    }
    match outcome {
        Ok(_) => Ok(()),
        Err(failure) => {
            let next = "the Runtime ran the tool, which failed; correct the arguments or ask its owner";
            Err(Failure::local(format!("the tool failed: {}", failure.message()), next))
        }
    }
}

impl After {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let mut agent = ctx.client()?.agent();
        let invocation = match self {
            Self::Outcome { session: session_id, invocation_id } => {
                agent.get_invocation(v1::GetInvocationRequest { session_id, invocation_id }).await?
            }
            Self::Cancel { session: session_id, invocation_id } => {
                let request = v1::CancelInvocationRequest { session_id, invocation_id };
                return ctx.show("CancelInvocationResponse", agent.cancel_invocation(request).await?);
            }
            Self::Resolve { session: session_id, invocation_id, status, justification } => {
                let status = match status {
                    Settled::Succeeded => v1::InvocationStatus::InvocationSucceeded,
                    Settled::Failed => v1::InvocationStatus::InvocationFailed,
                    Settled::Cancelled => v1::InvocationStatus::InvocationCancelled,
                };
                let status = status.into();
                let request =
                    v1::ResolveInvocationRequest { session_id, invocation_id, status, justification };
                agent.resolve_invocation(request).await?
            }
        };
        ctx.show("Invocation", invocation)
    }
}

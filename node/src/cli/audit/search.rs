use std::time::Duration;

use aesp_proto::{Error, v1};
use clap::Args;
use tokio::time::{Instant, sleep};

use super::filter::{Filter, Times};
use crate::cli::{context::Context, failure::Failure, page::Page};

const COLUMNS: &[&str] =
    &["timestamp_ms", "event_type", "action", "outcome", "principal_id", "resource", "reason", "event_id"];
/// How long a stream that broke off is begun again, at whichever node answers.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct Search {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    times: Times,
    /// Newest first.
    #[arg(long, conflicts_with = "follow")]
    newest_first: bool,
    /// Show events as they happen, from now on or from --start or --cursor; with --output json a line each.
    #[arg(long, conflicts_with = "end")]
    follow: bool,
    #[command(flatten)]
    page: Page,
}

impl Search {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        if self.follow {
            return self.follow(ctx).await;
        }
        let request = v1::QueryEventsRequest {
            tenant_id: ctx.tenant(),
            start_ms: self.times.start.unwrap_or_default(),
            end_ms: self.times.end.unwrap_or_default(),
            page: self.page.into(),
            newest_first: self.newest_first,
            filter: Some(self.filter.into()),
            ..v1::QueryEventsRequest::default()
        };
        let answer = ctx.client()?.audit().query_events(request).await?;
        ctx.show_list("QueryEventsResponse", answer, "events", COLUMNS)
    }

    async fn follow(self, ctx: &Context) -> Result<(), Failure> {
        let page: Option<v1::Page> = self.page.into();
        let mut request = v1::FollowEventsRequest {
            tenant_id: ctx.tenant(),
            filter: Some(self.filter.into()),
            cursor: page.unwrap_or_default().cursor,
            start_ms: self.times.start.unwrap_or_default(),
        };
        let mut since = Instant::now();
        loop {
            let broken = match follow_once(ctx, &mut request, &mut since).await {
                Ok(()) => None,
                Err(Broken::Failure(failure)) => return Err(failure),
                Err(Broken::Status(status)) => Some(status),
            };
            // From the last cursor on nothing is lost, whichever node answers.
            if let Some(status) = broken
                && (!Error::from_status(&status).is_retryable() || since.elapsed() >= PATIENCE)
            {
                return Err(status.into());
            }
            sleep(PAUSE).await;
        }
    }
}

enum Broken {
    Status(tonic::Status),
    Failure(Failure),
}

async fn follow_once(
    ctx: &Context,
    request: &mut v1::FollowEventsRequest,
    since: &mut Instant,
) -> Result<(), Broken> {
    let client = ctx.client().map_err(Broken::Failure)?;
    let mut parts = client.audit().follow_events(request.clone()).await.map_err(Broken::Status)?.into_inner();
    while let Some(part) = parts.message().await.map_err(Broken::Status)? {
        for event in &part.events {
            ctx.console.item("AuditEvent", event, COLUMNS).map_err(Broken::Failure)?;
        }
        if !part.cursor.is_empty() {
            request.cursor = part.cursor;
        }
        *since = Instant::now();
    }
    Ok(())
}

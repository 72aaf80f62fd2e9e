use std::{collections::BTreeMap, sync::Arc};

use aesp_audit::Filter;
use aesp_call::View;
use aesp_identity::Principal;
use aesp_policy::{Context as Circumstances, Request as Question, authorize};
use aesp_proto::{
    Error, PrincipalId, TenantId, Timestamp,
    v1::{
        AccessLine, EventType, GetAccessReportRequest, GetAccessReportResponse, Outcome,
        access_report_service_server,
    },
};
use aesp_search::{GroupBy, Question as Count};
use tonic::{Request, Response, Status};

use super::{Context, enter};

/// The most lines of a report.
const LINES: usize = 10_000;
/// The most pairs of a tool and a principal that one report decides about.
const PAIRS: usize = 100_000;
/// Decisions after which others get their turn on the thread.
const TURN: usize = 64;
/// Parts of a count that one report adds up.
const PARTS: usize = 200;
/// The operation that a tool is used by.
const ACTION: &str = "tool.invoke";

/// Who could use which tool, and who did.
pub(crate) struct AccessReports(pub(crate) Context);

/// A tool, by its name, and a principal.
type Pair = (String, PrincipalId);

#[derive(Default)]
struct Line {
    could: bool,
    succeeded: u64,
    failed: u64,
    denied: u64,
}

#[tonic::async_trait]
impl access_report_service_server::AccessReportService for AccessReports {
    async fn get_access_report(
        &self,
        request: Request<GetAccessReportRequest>,
    ) -> Result<Response<GetAccessReportResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let report = self.report(granted.tenant(), &entry.message).await;
        let outcome = if report.is_ok() { Outcome::Success } else { Outcome::Failure };
        let event = granted.event(EventType::DataAccess, outcome, "access report");
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(report?))
    }
}

impl AccessReports {
    async fn report(
        &self,
        tenant: TenantId,
        asked: &GetAccessReportRequest,
    ) -> Result<GetAccessReportResponse, Error> {
        let view = self.0.views.get(tenant).await?;
        let now = self.0.clock.now();
        let only = match asked.principal_id.as_str() {
            "" => None,
            named => Some(named.parse().or_else(|_| known(&view, named))?),
        };
        let mut lines = BTreeMap::<Pair, Line>::new();
        let mut cut = self.could(&view, asked, only, now, &mut lines).await;
        self.did(tenant, asked, only, &mut lines).await?;
        cut |= lines.len() > LINES;
        let mut roles = BTreeMap::<PrincipalId, Vec<String>>::new();
        let lines = lines.into_iter().take(LINES).map(|((tool, principal), line)| AccessLine {
            tool,
            principal_id: principal.to_string(),
            principal_name: view
                .identity
                .principal(principal)
                .map(|found| found.name.to_string())
                .unwrap_or_default(),
            could: line.could,
            roles: roles.entry(principal).or_insert_with(|| view.policy.roles_of(principal, now)).clone(),
            succeeded: line.succeeded,
            failed: line.failed,
            denied: line.denied,
        });
        Ok(GetAccessReportResponse {
            lines: lines.collect(),
            revision: view.policy.revision().0,
            decided_at_ms: now.0,
            cut,
        })
    }

    /// Adds who might call which tool by the rights of now; tells whether not all were decided about.
    async fn could(
        &self,
        view: &View,
        asked: &GetAccessReportRequest,
        only: Option<PrincipalId>,
        now: Timestamp,
        lines: &mut BTreeMap<Pair, Line>,
    ) -> bool {
        let principals: Vec<&Arc<Principal>> = view
            .identity
            .principals()
            .filter(|one| one.is_active() && only.is_none_or(|only| one.id == only))
            .collect();
        let mut decided = 0;
        for compiled in view.catalog.defaults() {
            let name = compiled.contract().name();
            if !asked.tool.is_empty() && asked.tool != name {
                continue;
            }
            for principal in &principals {
                if decided >= PAIRS {
                    return true;
                }
                decided += 1;
                if decided % TURN == 0 {
                    tokio::task::yield_now().await;
                }
                if may_call(&self.0, view, principal, compiled, now) {
                    lines.entry((name.to_owned(), principal.id)).or_default().could = true;
                }
            }
        }
        false
    }

    /// Adds what was done, as the log has it.
    async fn did(
        &self,
        tenant: TenantId,
        asked: &GetAccessReportRequest,
        only: Option<PrincipalId>,
        lines: &mut BTreeMap<Pair, Line>,
    ) -> Result<(), Error> {
        let moment = |ms: i64| (ms != 0).then_some(Timestamp(ms));
        let mut question = Count {
            tenant,
            start: moment(asked.start_ms),
            end: moment(asked.end_ms),
            filter: Filter {
                kinds: vec![EventType::ToolInvocation, EventType::Authorization],
                actions: vec![ACTION.to_owned()],
                principals: only.into_iter().collect(),
                tools: Some(asked.tool.clone()).filter(|tool| !tool.is_empty()).into_iter().collect(),
                ..Filter::default()
            },
            by: vec![GroupBy::Principal, GroupBy::Tool, GroupBy::Outcome],
            cursor: String::new(),
        };
        for _ in 0..PARTS {
            let counted = self.0.index.statistics(&question).await?;
            for group in counted.groups {
                let tool = group.tool.unwrap_or_default();
                let Some(principal) = group.principal.filter(|_| !tool.is_empty()) else { continue };
                let line = lines.entry((tool, principal)).or_default();
                let count = match group.outcome {
                    Some(Outcome::Success) => &mut line.succeeded,
                    Some(Outcome::Denied) => &mut line.denied,
                    _ => &mut line.failed,
                };
                *count += group.tally.occurrences;
            }
            question.cursor = counted.next_cursor;
            if question.cursor.is_empty() {
                return Ok(());
            }
        }
        Err(Error::invalid("there is more in the log than one report counts")
            .remedy("ask for a shorter time: --since and --until"))
    }
}

fn known(view: &View, named: &str) -> Result<PrincipalId, Error> {
    let found = view.identity.by_name(named).map(|one| one.id);
    found.ok_or_else(|| {
        Error::new(aesp_proto::ErrorCode::NotFound, "there is no such principal")
            .remedy("name one that is gone by its id")
    })
}

/// Asks what a call would ask, but for its arguments, its address and its session.
fn may_call(
    context: &Context,
    view: &View,
    principal: &Principal,
    compiled: &aesp_catalog::Compiled,
    now: Timestamp,
) -> bool {
    let tenant = view.tenant.id();
    if view.tenant.refuses_calls().is_some() {
        return false;
    }
    let question = Question {
        principal: principal.id,
        principal_kind: principal.kind.as_str_name(),
        tenant,
        on_behalf_of: None,
        action: ACTION,
        resource: compiled.resource(tenant),
        context: Circumstances::at(now),
    };
    authorize(&view.policy, &context.entropy, &question).into_permit().is_ok()
}

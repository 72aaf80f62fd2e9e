use aesp_call::Granted;
use aesp_proto::{
    Error, TenantId,
    v1::{
        AuditDeadLetter, AuditEvent, AuditSink, AuditSinkReport, EventType, GetAuditSinkRequest,
        ListAuditDeadLettersRequest, ListAuditDeadLettersResponse, ListAuditSinksRequest,
        ListAuditSinksResponse, Outcome, RetryAuditDeadLettersRequest, RetryAuditDeadLettersResponse,
        TestAuditSinkRequest, TestAuditSinkResponse, audit_sink_service_server,
    },
};
use aesp_sinks::{Config, Start};
use data_encoding::HEXLOWER;
use tonic::{Request, Response, Status};

use super::{Context, Entry, enter};

const PLATFORM: TenantId = TenantId::PLATFORM;

/// Where audit events are sent.
pub(crate) struct AuditSinks(pub(crate) Context);

impl AuditSinks {
    /// Sinks see every tenant's log: they are the platform's matter.
    async fn grant<T>(&self, entry: &Entry<T>) -> Result<Granted, Error> {
        self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await
    }

    /// Records that something was looked at, whatever came of it, and answers if it may still be seen.
    async fn looked<T>(&self, granted: &Granted, name: &str, found: Result<T, Error>) -> Result<T, Error> {
        let outcome = if found.is_ok() { Outcome::Success } else { Outcome::Failure };
        let mut event = granted.event(EventType::DataAccess, outcome, resource(name));
        if let Err(error) = &found {
            event.details.reason = error.code().as_str_name().to_owned();
        }
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(granted).await?;
        found
    }

    async fn describe(&self, config: &Config) -> Result<AuditSink, Error> {
        let (row, reports) = self.0.sinks.reports(&config.name).await?;
        let nodes: Vec<AuditSinkReport> = reports
            .into_iter()
            .map(|(node, report)| AuditSinkReport {
                node: node.0,
                at_ms: report.at.0,
                pending: report.pending,
                lag_ms: report.lag_ms,
                delivered: report.taken,
                refused: report.refused,
                cause: report.cause,
                trouble: report.why,
            })
            .collect();
        let trouble = nodes.iter().find(|node| !node.cause.is_empty());
        Ok(AuditSink {
            name: config.name.clone(),
            kind: config.kind.name().into(),
            // What is asked for behind the path may be a secret.
            target: config.target.split('?').next().unwrap_or_default().to_owned(),
            since_ms: row.since.0,
            from_beginning: config.start == Start::Beginning,
            min_severity: config.min_severity.name().into(),
            event_types: config.types.clone(),
            tenant_ids: config.tenants.clone(),
            lag_ms: nodes.iter().map(|node| node.lag_ms).max().unwrap_or_default(),
            trouble: trouble.map(|node| format!("{}: {}", node.cause, node.trouble)).unwrap_or_default(),
            nodes,
        })
    }

    async fn find(&self, name: &str) -> Result<AuditSink, Error> {
        let config = self.0.sinks.configs().into_iter().find(|config| config.name == name);
        match config {
            Some(config) => self.describe(config).await,
            None => Err(aesp_sinks::Error::Unknown(name.to_owned()).into()),
        }
    }

    /// Resolves the tenant whose log is meant; empty is the platform.
    async fn tenant<T>(&self, entry: &Entry<T>, named: &str) -> Result<TenantId, Error> {
        if named.is_empty() { Ok(PLATFORM) } else { self.0.tenant(&entry.caller, named).await }
    }
}

fn resource(name: &str) -> String {
    if name.is_empty() { "audit-sinks".into() } else { format!("audit-sink:{name}") }
}

#[tonic::async_trait]
impl audit_sink_service_server::AuditSinkService for AuditSinks {
    async fn list_audit_sinks(
        &self,
        request: Request<ListAuditSinksRequest>,
    ) -> Result<Response<ListAuditSinksResponse>, Status> {
        let granted = self.grant(&enter(request)?).await?;
        let found = async {
            let mut sinks = Vec::new();
            for config in self.0.sinks.configs() {
                sinks.push(self.describe(config).await?);
            }
            Ok(sinks)
        };
        let sinks = self.looked(&granted, "", found.await).await?;
        Ok(Response::new(ListAuditSinksResponse { sinks }))
    }

    async fn get_audit_sink(
        &self,
        request: Request<GetAuditSinkRequest>,
    ) -> Result<Response<AuditSink>, Status> {
        let entry = enter(request)?;
        let granted = self.grant(&entry).await?;
        let name = &entry.message.name;
        Ok(Response::new(self.looked(&granted, name, self.find(name).await).await?))
    }

    async fn test_audit_sink(
        &self,
        request: Request<TestAuditSinkRequest>,
    ) -> Result<Response<TestAuditSinkResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.grant(&entry).await?;
        let resource = resource(&entry.message.name);
        let mut event = granted.event(EventType::SystemEvent, Outcome::Success, resource.as_str());
        let sent = AuditEvent {
            event_id: event.id.to_string(),
            timestamp_ms: self.0.clock.now().0,
            event_type: EventType::SystemEvent.into(),
            outcome: Outcome::Success.into(),
            principal_id: granted.caller().principal_id().to_string(),
            tenant_id: PLATFORM.to_string(),
            action: granted.action().to_owned(),
            resource: resource.clone(),
            reason: "a test of this sink".into(),
            ..AuditEvent::default()
        };
        let told = self.0.sinks.test(&entry.message.name, &sent).await;
        let told = self.0.settled(&granted, EventType::SystemEvent, &resource, told).await?;
        let (cause, trouble) = match told {
            Ok(()) => (String::new(), String::new()),
            Err((cause, why)) => (cause.name().to_owned(), why),
        };
        if !cause.is_empty() {
            event.outcome = Outcome::Failure;
            event.details.reason = format!("{cause}: {trouble}");
        }
        let event_id = event.id.to_string();
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(TestAuditSinkResponse { taken: cause.is_empty(), cause, trouble, event_id }))
    }

    async fn list_audit_dead_letters(
        &self,
        request: Request<ListAuditDeadLettersRequest>,
    ) -> Result<Response<ListAuditDeadLettersResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.grant(&entry).await?;
        let asked = &entry.message;
        let page = asked.page.clone().unwrap_or_default();
        let found = async {
            let tenant = self.tenant(&entry, &asked.tenant_id).await?;
            let after = read_position(&page.cursor)?;
            let limit = super::limit(&page);
            let letters = self.0.sinks.dead_letters(&asked.name, tenant, after, limit).await?;
            let next = letters.last().filter(|_| letters.len() == limit);
            Ok(ListAuditDeadLettersResponse {
                next_cursor: next.map(|last| HEXLOWER.encode(&last.position)).unwrap_or_default(),
                dead_letters: letters
                    .into_iter()
                    .map(|letter| AuditDeadLetter {
                        event_id: letter.event.to_string(),
                        reason: letter.why,
                        at_ms: letter.at.0,
                    })
                    .collect(),
            })
        };
        let found = found.await;
        Ok(Response::new(self.looked(&granted, &asked.name, found).await?))
    }

    async fn retry_audit_dead_letters(
        &self,
        request: Request<RetryAuditDeadLettersRequest>,
    ) -> Result<Response<RetryAuditDeadLettersResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.grant(&entry).await?;
        let resource = resource(&entry.message.name);
        let retried = async {
            let tenant = self.tenant(&entry, &entry.message.tenant_id).await?;
            let retried = self.0.sinks.retry(&entry.message.name, tenant).await?;
            Ok::<_, Error>((tenant, retried))
        };
        let retried = retried.await;
        let (tenant, retried) = self.0.settled(&granted, EventType::SystemEvent, &resource, retried).await?;
        let mut event = granted.event(EventType::SystemEvent, Outcome::Success, resource);
        event.details.reason = retried.why.clone();
        event.details.fields = vec![
            ("tenant".into(), tenant.to_string()),
            ("delivered".into(), retried.delivered.to_string()),
            ("refused".into(), retried.refused.to_string()),
        ];
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(RetryAuditDeadLettersResponse {
            delivered: retried.delivered,
            refused: retried.refused,
            trouble: retried.why,
            more: retried.more,
        }))
    }
}

fn read_position(cursor: &str) -> Result<Option<[u8; 16]>, Error> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let bytes = HEXLOWER.decode(cursor.as_bytes()).ok();
    let position = bytes.and_then(|bytes| bytes.try_into().ok());
    position.map(Some).ok_or_else(|| Error::invalid("the cursor does not belong to this query"))
}

mod export;
mod filter;
mod follow;
mod statistics;

use std::pin::Pin;

use aesp_audit::{Export, Query};
use aesp_call::Granted;
use aesp_proto::{
    Error, TenantId,
    v1::{
        AuditIndex, ConsistencyProof, EventType, ExportAuditLogsRequest, ExportAuditLogsResponse,
        FollowEventsRequest, GetAuditIndexRequest, GetAuditStatisticsRequest, GetAuditStatisticsResponse,
        GetCheckpointRequest, GetConsistencyProofRequest, GetInclusionProofRequest, GetLogKeysRequest,
        GetLogKeysResponse, InclusionProof, LogCheckpoint, LogEventRequest, LogEventResponse, Outcome,
        QueryEventsRequest, QueryEventsResponse, RebuildAuditIndexRequest, RebuildAuditIndexResponse,
        RotateLogKeyRequest, RotateLogKeyResponse, enterprise_audit_service_server,
    },
};
use aesp_search::Index;
use aesp_transparency::{Log, LogKeys};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};

pub(crate) use self::follow::Followers;
use super::{Context, enter, proofs};

/// The audit log, to be found, counted, followed and exported; and events of reporters outside the Host.
pub(crate) struct Audit(pub(crate) Context);

type Parts = Pin<Box<dyn Stream<Item = Result<ExportAuditLogsResponse, Status>> + Send>>;

impl Audit {
    fn log(&self, tenant: TenantId) -> Log {
        Log::new(self.0.store.clone(), tenant)
    }

    /// Records that the log is read: reading it is itself an event.
    async fn reads(&self, granted: &Granted, what: &str) -> Result<(), Error> {
        let event = granted.event(EventType::DataAccess, Outcome::Success, what);
        Ok(self.0.recorder.append(vec![event]).await?)
    }
}

#[tonic::async_trait]
impl enterprise_audit_service_server::EnterpriseAuditService for Audit {
    type ExportAuditLogsStream = Parts;
    type FollowEventsStream = follow::Parts;

    async fn log_event(
        &self,
        request: Request<LogEventRequest>,
    ) -> Result<Response<LogEventResponse>, Status> {
        let entry = enter(request)?;
        let told = entry.message.event.clone().unwrap_or_default();
        let granted = self.0.grant(&entry, &told.tenant_id).await?;
        if told.event_type() == EventType::Unspecified || told.outcome() == Outcome::Unspecified {
            return Err(Error::invalid("event.event_type and event.outcome must be given").into());
        }
        // Who reports stands in the record, whoever the report is about.
        let mut event = granted.event(told.event_type(), told.outcome(), told.resource);
        event.external = true;
        event.details.reason = told.reason;
        event.details.risk_score = told.risk_score;
        event.details.policy_violations = told.policy_violations;
        event.details.fields = told.metadata.into_iter().collect();
        event.details.fields.sort();
        event.details.fields.push(("reported_action".into(), told.action));
        event.details.fields.push(("reported_principal".into(), told.principal_id));
        let event_id = event.id.to_string();
        let receipt = self.0.recorder.append_with_receipt(event).await.map_err(Error::from)?;
        Ok(Response::new(LogEventResponse { event_id, receipt: Some(receipt.to_wire()) }))
    }

    async fn query_events(
        &self,
        request: Request<QueryEventsRequest>,
    ) -> Result<Response<QueryEventsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let asked = entry.message;
        let page = asked.page.clone().unwrap_or_default();
        let query = Query {
            filter: filter::of_query(&asked)?,
            newest_first: asked.newest_first,
            limit: super::limit(&page),
            cursor: page.cursor,
            ..Query::new(granted.tenant())
        };
        let query = filter::in_time(query, asked.start_ms, asked.end_ms);
        let found = self.0.index.search(&query).await.map_err(Error::from)?;
        self.reads(&granted, "audit log").await?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(QueryEventsResponse {
            events: found.page.events,
            next_cursor: found.page.next_cursor,
            index: Some(statistics::index(&found.index, false)),
        }))
    }

    async fn get_audit_statistics(
        &self,
        request: Request<GetAuditStatisticsRequest>,
    ) -> Result<Response<GetAuditStatisticsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let question = statistics::question(&entry.message, granted.tenant())?;
        let counted = self.0.index.statistics(&question).await.map_err(Error::from)?;
        self.reads(&granted, "audit log statistics").await?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(statistics::answer(counted)))
    }

    async fn follow_events(
        &self,
        request: Request<FollowEventsRequest>,
    ) -> Result<Response<follow::Parts>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        // What is committed from here on comes, the record of this included.
        let following = follow::begin(&self.0, granted.clone(), &entry.message).await?;
        self.reads(&granted, "audit log, followed").await?;
        Ok(Response::new(following))
    }

    async fn get_audit_index(
        &self,
        request: Request<GetAuditIndexRequest>,
    ) -> Result<Response<AuditIndex>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (status, at_end) = self.0.index.status(granted.tenant()).await.map_err(Error::from)?;
        self.reads(&granted, "audit log index").await?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(statistics::index(&status, at_end)))
    }

    async fn rebuild_audit_index(
        &self,
        request: Request<RebuildAuditIndexRequest>,
    ) -> Result<Response<RebuildAuditIndexResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let rebuilt = self.0.commit(&granted, "audit log index".into(), move |tx| {
            Box::pin(async move { Ok(Index::rebuild(tx, tenant).await?) })
        });
        rebuilt.await?;
        Ok(Response::new(RebuildAuditIndexResponse {}))
    }

    async fn export_audit_logs(
        &self,
        request: Request<ExportAuditLogsRequest>,
    ) -> Result<Response<Parts>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let format = export::format(&entry.message)?;
        self.reads(&granted, "audit log export").await?;
        if let Some(format) = format {
            return Ok(Response::new(export::export(&self.0, granted, &entry.message, format).await?));
        }
        let seals = self.0.store.run(|tx| Box::pin(LogKeys::seals(tx))).await.map_err(Error::from)?;
        let mut export =
            Export::open(&self.0.store, &*self.0.clock, granted.tenant()).await.map_err(Error::from)?;
        if let Some(seals) = seals {
            export = export.with_seals(&seals).map_err(Error::from)?;
        }
        if let Some(range) = export::range(&entry.message)? {
            let section = self.log(granted.tenant()).section(range).await.map_err(Error::from)?;
            export = export.of_section(section);
        }
        // INVARIANT R1: an export ends with the right to it.
        let access = self.0.access.clone();
        let lines = export.into_stream().then(move |part| {
            let (access, granted) = (access.clone(), granted.clone());
            async move {
                access.still(&granted).await?;
                let json_lines = part.map_err(Error::from)?.to_vec();
                Ok::<_, Error>(ExportAuditLogsResponse { json_lines, ..Default::default() })
            }
        });
        let mut ended = false;
        let until_refused = lines.take_while(move |part| {
            let show = !ended;
            ended = part.is_err();
            async move { show }
        });
        Ok(Response::new(Box::pin(until_refused.map(|part| part.map_err(Status::from)))))
    }
    async fn get_checkpoint(
        &self,
        request: Request<GetCheckpointRequest>,
    ) -> Result<Response<LogCheckpoint>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let checkpoint = proofs::checkpoint(&self.log(granted.tenant())).await;
        Ok(Response::new(proofs::read(&self.0, &granted, "audit log checkpoint", checkpoint).await?))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<GetInclusionProofRequest>,
    ) -> Result<Response<InclusionProof>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let proof = proofs::inclusion(&self.log(granted.tenant()), &entry.message).await;
        Ok(Response::new(proofs::read(&self.0, &granted, "audit log inclusion proof", proof).await?))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<GetConsistencyProofRequest>,
    ) -> Result<Response<ConsistencyProof>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let proof = proofs::consistency(&self.log(granted.tenant()), &entry.message).await;
        Ok(Response::new(proofs::read(&self.0, &granted, "audit log consistency proof", proof).await?))
    }

    async fn get_log_keys(
        &self,
        request: Request<GetLogKeysRequest>,
    ) -> Result<Response<GetLogKeysResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let keys = proofs::read(&self.0, &granted, "audit log keys", proofs::keys(&self.0).await).await?;
        Ok(Response::new(keys))
    }

    async fn rotate_log_key(
        &self,
        request: Request<RotateLogKeyRequest>,
    ) -> Result<Response<RotateLogKeyResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, TenantId::PLATFORM).await?;
        let now = self.0.clock.now();
        let rotated = self.0.commit(&granted, "log-key".into(), move |tx| {
            Box::pin(async move { Ok(LogKeys::rotate(tx, now).await?) })
        });
        let key = proofs::key_on_the_wire(rotated.await?, now);
        Ok(Response::new(RotateLogKeyResponse { key: Some(key) }))
    }
}

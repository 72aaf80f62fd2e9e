use std::time::Duration;

use aesp_audit::{RetentionPolicy as Rules, RetentionRule as StoredRule, STANDARD_CLASS, shelf::bundles};
use aesp_proto::{
    Error, HoldId, PrincipalId, TenantId, Timestamp,
    v1::{
        AuditArchive, AuditPartition, Destruction as DestructionWire, EraseSubjectRequest,
        EraseSubjectResponse, GetAuditArchiveRequest, GetRetentionPolicyRequest, LegalHold,
        ListAuditPartitionsRequest, ListAuditPartitionsResponse, ListDestructionsRequest,
        ListDestructionsResponse, ListLegalHoldsRequest, ListLegalHoldsResponse, PlaceLegalHoldRequest,
        ReleaseLegalHoldRequest, RetentionPolicy, RetentionRule, RunAuditArchiveRequest,
        RunAuditArchiveResponse, SetRetentionPolicyRequest, retention_service_server,
    },
};
use aesp_retention::{
    Destruction, Hold, HoldScope, Limits, NewHold, NewPolicy, NewRule, Partition, Released, destructions,
    erase, holds, partitions, place_hold, release_hold, set_policy, wanted_version,
};
use aesp_storage::AuditKeyName;
use data_encoding::HEXLOWER;
use tonic::{Request, Response, Status};

use super::{Context, enter, parse};

const PLATFORM: TenantId = TenantId::PLATFORM;
/// How long one request moves old events.
const RUN: Duration = Duration::from_secs(20);

/// How long audit events are kept, and what was erased.
pub(crate) struct Retention(pub(crate) Context);

impl Retention {
    fn limits(&self) -> Limits {
        self.0.retention.limits()
    }
}

#[tonic::async_trait]
impl retention_service_server::RetentionService for Retention {
    async fn get_retention_policy(
        &self,
        request: Request<GetRetentionPolicyRequest>,
    ) -> Result<Response<RetentionPolicy>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, version) = (granted.tenant(), entry.message.version);
        let rules = self.0.read(&granted, "retention policy".into(), move |tx| {
            Box::pin(async move { Ok(wanted_version(tx, tenant, version).await?) })
        });
        Ok(Response::new(policy_on_the_wire(tenant, &rules.await?, &self.limits())))
    }

    async fn set_retention_policy(
        &self,
        request: Request<SetRetentionPolicyRequest>,
    ) -> Result<Response<RetentionPolicy>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, limits) = (granted.tenant(), self.limits());
        let by = (granted.caller().principal_id(), self.0.clock.now());
        let expected = entry.message.expected_version;
        let new = NewPolicy {
            rules: entry.message.rules.into_iter().map(rule_asked_for).collect(),
            standard_days: entry.message.standard_days,
        };
        let set = self.0.commit(&granted, "retention policy".into(), move |tx| {
            let new = new.clone();
            Box::pin(async move { Ok(set_policy(tx, tenant, &new, &limits, expected, by).await?) })
        });
        let rules = set.await?;
        self.0.retention.wake();
        Ok(Response::new(policy_on_the_wire(tenant, &rules, &limits)))
    }

    async fn place_legal_hold(
        &self,
        request: Request<PlaceLegalHoldRequest>,
    ) -> Result<Response<LegalHold>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let id = HoldId::random(&self.0.entropy);
        let resource = format!("legal-hold:{id}");
        let asked = entry.message;
        let moment = |ms: i64| (ms != 0).then_some(Timestamp(ms));
        let principal = async {
            match asked.principal_id.as_str() {
                "" => Ok(None),
                named => self.subject(tenant, named).await.map(Some),
            }
        };
        let principal = self.0.checked(&granted, &resource, principal.await).await?;
        let new = NewHold {
            scope: HoldScope { principal, from: moment(asked.from_ms), to: moment(asked.to_ms) },
            reason: asked.reason,
            at: self.0.clock.now(),
            by: granted.caller().principal_id(),
            of_platform: granted.caller().tenant() == PLATFORM,
        };
        let placed = self.0.commit(&granted, resource, move |tx| {
            let new = new.clone();
            Box::pin(async move { Ok(place_hold(tx, tenant, id, new).await?) })
        });
        Ok(Response::new(hold_on_the_wire(id, placed.await?)))
    }

    async fn release_legal_hold(
        &self,
        request: Request<ReleaseLegalHoldRequest>,
    ) -> Result<Response<LegalHold>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let id = parse::<HoldId>(&entry.message.hold_id);
        let id = self.0.checked(&granted, "legal-hold:unknown", id).await?;
        let released = Released {
            at: self.0.clock.now(),
            by: granted.caller().principal_id(),
            reason: entry.message.reason,
        };
        let of_platform = granted.caller().tenant() == PLATFORM;
        let ended = self.0.commit(&granted, format!("legal-hold:{id}"), move |tx| {
            let released = released.clone();
            Box::pin(async move { Ok(release_hold(tx, tenant, id, released, of_platform).await?) })
        });
        let hold = ended.await?;
        self.0.retention.wake();
        Ok(Response::new(hold_on_the_wire(id, hold)))
    }

    async fn list_legal_holds(
        &self,
        request: Request<ListLegalHoldsRequest>,
    ) -> Result<Response<ListLegalHoldsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let found = self.0.read(&granted, "legal holds".into(), move |tx| {
            Box::pin(async move { Ok(holds(tx, tenant).await?) })
        });
        let mut holds: Vec<_> =
            found.await?.into_iter().map(|(id, hold)| hold_on_the_wire(id, hold)).collect();
        holds.sort_by_key(|hold| (!hold.active, hold.placed_at_ms));
        Ok(Response::new(ListLegalHoldsResponse { holds }))
    }

    async fn erase_subject(
        &self,
        request: Request<EraseSubjectRequest>,
    ) -> Result<Response<EraseSubjectResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let subject = self.subject(tenant, &entry.message.principal_id).await;
        let subject = self.0.checked(&granted, "subject:unknown", subject).await?;
        let by = (granted.caller().principal_id(), self.0.clock.now());
        let reason = entry.message.reason;
        // Not `principal:…`: the record of an erasure is about who did it, and must not be erased with the subject.
        let erased = self.0.commit(&granted, format!("subject:{subject}"), move |tx| {
            let reason = reason.clone();
            Box::pin(async move { Ok(erase(tx, tenant, subject, &reason, by).await?) })
        });
        let erased = erased.await?;
        self.0.retention.metrics().erased(erased.keys.len());
        self.0.retention.wake();
        let key_ids = erased.keys.iter().map(|key| HEXLOWER.encode(&key.to_bytes())).collect();
        Ok(Response::new(EraseSubjectResponse { key_ids }))
    }

    async fn list_destructions(
        &self,
        request: Request<ListDestructionsRequest>,
    ) -> Result<Response<ListDestructionsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let page = entry.message.page.unwrap_or_default();
        let limit = super::limit(&page);
        let found = self.0.read(&granted, "destroyed audit keys".into(), move |tx| {
            let cursor = page.cursor.clone();
            Box::pin(async move { Ok(destructions(tx, tenant, read_cursor(&cursor)?, limit).await?) })
        });
        let found = found.await?;
        let next = found.last().filter(|_| found.len() == limit);
        let next_cursor = next.map(|last| HEXLOWER.encode(&last.key.to_bytes())).unwrap_or_default();
        let destructions = found.into_iter().map(destruction_on_the_wire).collect();
        Ok(Response::new(ListDestructionsResponse { destructions, next_cursor }))
    }

    async fn list_audit_partitions(
        &self,
        request: Request<ListAuditPartitionsRequest>,
    ) -> Result<Response<ListAuditPartitionsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, limits, now) = (granted.tenant(), self.limits(), self.0.clock.now());
        let found = self.0.read(&granted, "audit partitions".into(), move |tx| {
            Box::pin(async move { Ok(partitions(tx, tenant, &limits, now).await?) })
        });
        let partitions = found.await?.into_iter().map(partition_on_the_wire).collect();
        Ok(Response::new(ListAuditPartitionsResponse { partitions }))
    }

    async fn get_audit_archive(
        &self,
        request: Request<GetAuditArchiveRequest>,
    ) -> Result<Response<AuditArchive>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let found = self.0.read(&granted, "audit archive".into(), move |tx| {
            Box::pin(async move { Ok(bundles(tx, tenant).await?) })
        });
        let found = found.await?;
        let last = found.last().map(|(_, bundle)| bundle);
        Ok(Response::new(AuditArchive {
            configured: self.0.retention.archive().is_ok(),
            bundles: found.len() as u64,
            events: found.iter().map(|(_, bundle)| bundle.events).sum(),
            bytes: found.iter().map(|(_, bundle)| bundle.object_bytes).sum(),
            newest_ms: last.map(|bundle| bundle.last_at).unwrap_or_default().0,
            moved_at_ms: last.map(|bundle| bundle.moved_at).unwrap_or_default().0,
        }))
    }

    async fn run_audit_archive(
        &self,
        request: Request<RunAuditArchiveRequest>,
    ) -> Result<Response<RunAuditArchiveResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, retention) = (granted.tenant(), &self.0.retention);
        // At whichever node: what is moved is decided by the row of the last bundle, and of two one finds that the other was faster.
        let moved = async {
            let (archive, clock) = (retention.archive()?, &*self.0.clock);
            archive.run(&self.0.store, tenant, clock, None, retention.metrics(), RUN).await
        };
        let moved = self.0.checked(&granted, "audit archive", moved.await).await?;
        let mut events = granted.changed("audit archive");
        for event in &mut events {
            event.details.fields.push(("events".into(), moved.events.to_string()));
        }
        self.0.recorder.append(events).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(RunAuditArchiveResponse { bundles: moved.bundles, events: moved.events }))
    }
}

impl Retention {
    /// Finds a principal by its id, which need not be there any more, or by its name.
    async fn subject(&self, tenant: TenantId, named: &str) -> Result<PrincipalId, Error> {
        if let Ok(id) = named.parse() {
            return Ok(id);
        }
        let view = self.0.views.get(tenant).await?;
        let found = view.identity.by_name(named).map(|principal| principal.id);
        found.ok_or_else(|| {
            Error::new(aesp_proto::ErrorCode::NotFound, "there is no such principal")
                .remedy("name one that is gone by its id, as it stands in the audit log")
        })
    }
}

fn read_cursor(cursor: &str) -> Result<Option<AuditKeyName>, Error> {
    if cursor.is_empty() {
        return Ok(None);
    }
    let bytes = HEXLOWER.decode(cursor.as_bytes()).ok();
    let key = bytes.and_then(|bytes| AuditKeyName::read(&bytes));
    key.map(Some).ok_or_else(|| Error::invalid("the cursor does not belong to this query"))
}

fn rule_asked_for(rule: RetentionRule) -> NewRule {
    NewRule {
        name: rule.name,
        event_types: rule.event_types,
        action_prefix: rule.action_prefix,
        classifications: rule.classifications,
        days: rule.retain_days,
    }
}

fn policy_on_the_wire(tenant: TenantId, policy: &Rules, limits: &Limits) -> RetentionPolicy {
    let class = |number: u16| policy.classes.get(&number);
    let rule = |rule: &StoredRule| RetentionRule {
        name: class(rule.class).map(|class| class.name.clone()).unwrap_or_default(),
        event_types: rule.event_types.clone(),
        action_prefix: rule.action_prefix.clone(),
        classifications: rule.classifications.clone(),
        retain_days: class(rule.class).map(|class| class.days).unwrap_or_default(),
    };
    let former =
        policy.classes.iter().filter(|(number, _)| policy.rules.iter().all(|rule| rule.class != **number));
    RetentionPolicy {
        tenant_id: tenant.to_string(),
        version: policy.version,
        changed_at_ms: policy.changed_at.0,
        changed_by: policy.changed_by.map(|by| by.to_string()).unwrap_or_default(),
        rules: policy.rules.iter().map(rule).collect(),
        standard_days: policy.kept(STANDARD_CLASS, limits.default_days).0,
        standard_days_set: policy.standard_days.is_some(),
        minimum_days: limits.minimum_days,
        maximum_days: limits.maximum_days,
        former: former
            .map(|(_, class)| RetentionRule {
                name: class.name.clone(),
                retain_days: class.days,
                ..RetentionRule::default()
            })
            .collect(),
    }
}

fn hold_on_the_wire(id: HoldId, hold: Hold) -> LegalHold {
    let ms = |at: Option<Timestamp>| at.unwrap_or_default().0;
    let active = hold.is_active();
    let (released_at_ms, released_by, release_reason) = match hold.released {
        Some(Released { at, by, reason }) => (at.0, by.to_string(), reason),
        None => Default::default(),
    };
    LegalHold {
        hold_id: id.to_string(),
        principal_id: hold.scope.principal.map(|id| id.to_string()).unwrap_or_default(),
        from_ms: ms(hold.scope.from),
        to_ms: ms(hold.scope.to),
        reason: hold.reason,
        placed_at_ms: hold.placed_at.0,
        placed_by: hold.placed_by.to_string(),
        of_platform: hold.of_platform,
        active,
        released_at_ms,
        released_by,
        release_reason,
    }
}

fn destruction_on_the_wire(destruction: Destruction) -> DestructionWire {
    let Destruction { key, class, row } = destruction;
    let (principal_id, from_ms, to_ms) = match key {
        AuditKeyName::Partition(partition) => {
            (String::new(), partition.period.start().0, partition.period.end().0)
        }
        AuditKeyName::Subject(subject) => (subject.principal.to_string(), 0, 0),
    };
    DestructionWire {
        key_id: HEXLOWER.encode(&key.to_bytes()),
        principal_id,
        class,
        from_ms,
        to_ms,
        destroyed_at_ms: row.at.0,
        rule: row.rule,
        by: row.by.map(|by| by.to_string()).unwrap_or_default(),
        reason: row.reason,
        events: row.events,
        counted_at_ms: row.swept_at.unwrap_or_default().0,
    }
}

fn partition_on_the_wire(one: Partition) -> AuditPartition {
    AuditPartition {
        key_id: HEXLOWER.encode(&AuditKeyName::Partition(one.partition).to_bytes()),
        class: one.class,
        from_ms: one.partition.period.start().0,
        to_ms: one.partition.period.end().0,
        until_ms: one.until.unwrap_or_default().0,
        held_by: one.held_by.map(|id| id.to_string()).unwrap_or_default(),
    }
}

mod wire;

use aesp_alerts::{Acknowledgement, Delivery, LabelMatcher, ListedAlert, SilenceDraft, Status as Which};
use aesp_call::Granted;
use aesp_proto::{
    AlertId, DeliveryId, Error, SilenceId, TenantId, Timestamp,
    v1::{
        AcknowledgeAlertRequest, Alert, AlertHappening, AlertReceiver, AlertRulesVersion, AlertSilence,
        ApplyAlertRulesRequest, EventType, ExpireSilenceRequest, FailedAlertTest, GetAlertRuleRequest,
        GetAlertRuleResponse, GetAlertRulesRequest, ListAlertReceiversRequest, ListAlertReceiversResponse,
        ListAlertRuleVersionsRequest, ListAlertRuleVersionsResponse, ListAlertRulesRequest,
        ListAlertRulesResponse, ListAlertsRequest, ListAlertsResponse, ListDeliveriesRequest,
        ListDeliveriesResponse, ListSilencesRequest, ListSilencesResponse, Outcome,
        RollbackAlertRulesRequest, SilenceAlertsRequest, TestAlertReceiverRequest, TestAlertReceiverResponse,
        TestAlertRulesRequest, TestAlertRulesResponse, alert_service_server,
    },
};
use tonic::{Request, Response, Status};

use self::wire::{alert, delivery, rule, silence, version};
use super::{Context, enter};

const PLATFORM: TenantId = TenantId::PLATFORM;
const RULES: &str = "alert-rules";

/// Rules over the audit logs, alerts, silences, and the record of who was told.
pub(crate) struct Alerts(pub(crate) Context);

impl Alerts {
    /// Records that something was looked at, whatever came of it, and answers if it may still be seen.
    async fn looked<T>(&self, granted: &Granted, what: &str, found: Result<T, Error>) -> Result<T, Error> {
        let outcome = if found.is_ok() { Outcome::Success } else { Outcome::Failure };
        let mut event = granted.event(EventType::DataAccess, outcome, what);
        if let Err(error) = &found {
            event.details.reason = error.code().as_str_name().to_owned();
        }
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(granted).await?;
        found
    }

    /// Runs the tests of a document, and looks through a part of the log with it.
    async fn tried(
        &self,
        tenant: TenantId,
        asked: TestAlertRulesRequest,
    ) -> Result<TestAlertRulesResponse, Error> {
        let text = if asked.text.is_empty() {
            let stored =
                self.0.store.run(move |tx| Box::pin(async move { aesp_alerts::applied(tx, tenant).await }));
            stored.await?
        } else {
            asked.text
        };
        let (tests, failed) = self.0.alerts.test(tenant, &text).await?;
        let mut answer = TestAlertRulesResponse {
            tests: u32::try_from(tests).unwrap_or(u32::MAX),
            failed: failed
                .into_iter()
                .map(|one| FailedAlertTest { test: one.test, reason: one.why })
                .collect(),
            ..TestAlertRulesResponse::default()
        };
        if asked.from_ms != 0 || asked.to_ms != 0 {
            let to = if asked.to_ms == 0 { self.0.clock.now() } else { Timestamp(asked.to_ms) };
            if to.0 < asked.from_ms {
                return Err(Error::invalid("to_ms is before from_ms"));
            }
            let run = self.0.alerts.dry_run(tenant, &text, (Timestamp(asked.from_ms), to)).await?;
            let happened = run.happened.into_iter().map(|one| AlertHappening {
                rule: one.rule,
                became: one.became.name().into(),
                at_ms: one.at.0,
                group: one.group.into_iter().collect(),
                value: one.value,
            });
            answer.happened = happened.collect();
            (answer.events, answer.cut) = (run.events, run.cut);
        }
        Ok(answer)
    }
}

#[tonic::async_trait]
impl alert_service_server::AlertService for Alerts {
    async fn apply_alert_rules(
        &self,
        request: Request<ApplyAlertRulesRequest>,
    ) -> Result<Response<AlertRulesVersion>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, by, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let asked = entry.message;
        let checked = self.0.alerts.check(tenant, asked.text.clone()).await;
        let checked = self.0.checked(&granted, RULES, checked).await?;
        if asked.validate_only {
            let held = self.0.read(&granted, RULES.into(), move |tx| {
                Box::pin(async move { Ok(aesp_alerts::rules(tx, tenant).await?.0) })
            });
            let held = held.await?;
            let next = AlertRulesVersion {
                version: held + 1,
                author: by.to_string(),
                ..AlertRulesVersion::default()
            };
            return Ok(Response::new(next));
        }
        let (expected, comment) = (asked.expected_version, asked.comment);
        let applied = self.0.commit(&granted, RULES.into(), move |tx| {
            let (checked, comment) = (checked.clone(), comment.clone());
            Box::pin(async move {
                Ok(aesp_alerts::apply(tx, tenant, &checked, expected, (by, now, &comment)).await?)
            })
        });
        Ok(Response::new(version(applied.await?, true)))
    }

    async fn rollback_alert_rules(
        &self,
        request: Request<RollbackAlertRulesRequest>,
    ) -> Result<Response<AlertRulesVersion>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, by, now) = (granted.tenant(), entry.caller.principal_id(), self.0.clock.now());
        let asked = entry.message;
        let to = asked.version;
        let found = async {
            if to == 0 {
                return Err(Error::invalid("version must be given"));
            }
            let stored = self
                .0
                .store
                .run(move |tx| Box::pin(async move { aesp_alerts::version(tx, tenant, to).await }));
            // Receivers may be others than they were then.
            Ok(self.0.alerts.check(tenant, stored.await?.text).await?)
        };
        let found = found.await;
        let checked = self.0.checked(&granted, RULES, found).await?;
        let (expected, comment) = (asked.expected_version, asked.comment);
        let applied = self.0.commit(&granted, RULES.into(), move |tx| {
            let (checked, comment) = (checked.clone(), comment.clone());
            Box::pin(async move {
                let said = (by, now, comment.as_str());
                Ok(aesp_alerts::roll_back(tx, tenant, (to, &checked), expected, said).await?)
            })
        });
        Ok(Response::new(version(applied.await?, true)))
    }

    async fn list_alert_rules(
        &self,
        request: Request<ListAlertRulesRequest>,
    ) -> Result<Response<ListAlertRulesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let read = self.0.read(&granted, RULES.into(), move |tx| {
            Box::pin(async move { Ok(aesp_alerts::rules(tx, tenant).await?) })
        });
        let (version, rules) = read.await?;
        Ok(Response::new(ListAlertRulesResponse { version, rules: rules.into_iter().map(rule).collect() }))
    }

    async fn get_alert_rule(
        &self,
        request: Request<GetAlertRuleRequest>,
    ) -> Result<Response<GetAlertRuleResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, name) = (granted.tenant(), entry.message.name);
        let read = self.0.read(&granted, format!("alert-rule:{name}"), move |tx| {
            let name = name.clone();
            Box::pin(async move {
                let (held, ruling) = aesp_alerts::rule(tx, tenant, &name).await?;
                let row = if held == 0 { None } else { Some(aesp_alerts::version(tx, tenant, held).await?) };
                Ok((ruling, row))
            })
        });
        let (ruling, row) = read.await?;
        let version = row.map(|row| version(row, false));
        Ok(Response::new(GetAlertRuleResponse { rule: Some(rule(ruling)), version }))
    }

    async fn get_alert_rules(
        &self,
        request: Request<GetAlertRulesRequest>,
    ) -> Result<Response<AlertRulesVersion>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, asked) = (granted.tenant(), entry.message.version);
        let read = self.0.read(&granted, RULES.into(), move |tx| {
            Box::pin(async move { Ok(aesp_alerts::version(tx, tenant, asked).await?) })
        });
        Ok(Response::new(version(read.await?, true)))
    }

    async fn list_alert_rule_versions(
        &self,
        request: Request<ListAlertRuleVersionsRequest>,
    ) -> Result<Response<ListAlertRuleVersionsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let page = entry.message.page.unwrap_or_default();
        let (before, limit) = (super::cursor::<u32>(&page)?, super::limit(&page));
        let read = self.0.read(&granted, RULES.into(), move |tx| {
            Box::pin(async move { Ok(aesp_alerts::versions(tx, tenant, before, limit).await?) })
        });
        let rows = read.await?;
        // A page may be shorter than was asked for; the first version is the last.
        let next = rows.last().filter(|row| row.version > 1);
        Ok(Response::new(ListAlertRuleVersionsResponse {
            next_cursor: next.map(|row| row.version.to_string()).unwrap_or_default(),
            versions: rows.into_iter().map(|row| version(row, false)).collect(),
        }))
    }

    async fn test_alert_rules(
        &self,
        request: Request<TestAlertRulesRequest>,
    ) -> Result<Response<TestAlertRulesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tried = self.tried(granted.tenant(), entry.message).await;
        Ok(Response::new(self.looked(&granted, "alert-rules tried on the audit log", tried).await?))
    }

    async fn list_alerts(
        &self,
        request: Request<ListAlertsRequest>,
    ) -> Result<Response<ListAlertsResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, now) = (granted.tenant(), self.0.clock.now());
        let page = entry.message.page.clone().unwrap_or_default();
        let (before, limit) = (super::cursor::<AlertId>(&page)?, super::limit(&page));
        let which = match entry.message.status.as_str() {
            "" | "firing" => Some(Which::Firing),
            "resolved" => Some(Which::Resolved),
            "all" => Some(Which::Any),
            "pending" => None,
            _ => return Err(Error::invalid("status is firing, pending, resolved or all").into()),
        };
        let Some(which) = which else {
            let read = self.0.read(&granted, "alerts".into(), move |tx| {
                Box::pin(async move { Ok(aesp_alerts::list_pending(tx, tenant).await?) })
            });
            let pending = read.await?.into_iter().map(|one| Alert {
                rule: one.rule,
                severity: one.labels.get("severity").cloned().unwrap_or_default(),
                status: "pending".into(),
                labels: one.labels.into_iter().collect(),
                began_ms: one.since.0,
                tenant_id: tenant.to_string(),
                ..Alert::default()
            });
            let alerts = pending.take(limit).collect();
            return Ok(Response::new(ListAlertsResponse { alerts, next_cursor: String::new() }));
        };
        let read = self.0.read(&granted, "alerts".into(), move |tx| {
            Box::pin(
                async move { Ok(aesp_alerts::list_alerts(tx, tenant, which, before, limit, now).await?) },
            )
        });
        let (alerts, next) = read.await?;
        Ok(Response::new(ListAlertsResponse {
            alerts: alerts.into_iter().map(|one| alert(one, tenant)).collect(),
            next_cursor: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<AcknowledgeAlertRequest>,
    ) -> Result<Response<Alert>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let id = self.0.checked(&granted, "alert", super::parse::<AlertId>(&entry.message.alert_id)).await?;
        let AcknowledgeAlertRequest { note, resolve, .. } = entry.message;
        let said = Acknowledgement { by: entry.caller.principal_id(), at: self.0.clock.now(), note, resolve };
        let changed = self.0.commit(&granted, format!("alert:{id}"), move |tx| {
            let said = said.clone();
            Box::pin(async move { Ok(aesp_alerts::acknowledge(tx, tenant, id, &said).await?) })
        });
        let listed = ListedAlert { alert: changed.await?, silenced_until: None };
        Ok(Response::new(alert(listed, tenant)))
    }

    async fn silence_alerts(
        &self,
        request: Request<SilenceAlertsRequest>,
    ) -> Result<Response<AlertSilence>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, now) = (granted.tenant(), self.0.clock.now());
        let author = (entry.caller.principal_id(), now);
        let asked = entry.message;
        let matchers = asked.matchers.iter().map(|text| {
            text.parse::<LabelMatcher>().map_err(|error| Error::invalid(format!("`{text}`: {error}")))
        });
        let matchers =
            self.0.checked(&granted, "alert-silence", matchers.collect::<Result<Vec<_>, _>>()).await?;
        let draft = SilenceDraft {
            id: SilenceId::timed(now, &self.0.entropy),
            matchers,
            until: Timestamp(asked.until_ms),
            reason: asked.reason,
        };
        let begun = self.0.commit(&granted, format!("alert-silence:{}", draft.id), move |tx| {
            let draft = draft.clone();
            Box::pin(async move { Ok(aesp_alerts::silence(tx, tenant, &draft, author).await?) })
        });
        Ok(Response::new(silence(begun.await?)))
    }

    async fn list_silences(
        &self,
        request: Request<ListSilencesRequest>,
    ) -> Result<Response<ListSilencesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, at) = (granted.tenant(), (!entry.message.all).then(|| self.0.clock.now()));
        let read = self.0.read(&granted, "alert-silences".into(), move |tx| {
            Box::pin(async move { Ok(aesp_alerts::list_silences(tx, tenant, at).await?) })
        });
        Ok(Response::new(ListSilencesResponse { silences: read.await?.into_iter().map(silence).collect() }))
    }

    async fn expire_silence(
        &self,
        request: Request<ExpireSilenceRequest>,
    ) -> Result<Response<AlertSilence>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let (tenant, now) = (granted.tenant(), self.0.clock.now());
        let id = super::parse::<SilenceId>(&entry.message.silence_id);
        let id = self.0.checked(&granted, "alert-silence", id).await?;
        let ended = self.0.commit(&granted, format!("alert-silence:{id}"), move |tx| {
            Box::pin(async move { Ok(aesp_alerts::expire_silence(tx, tenant, id, now).await?) })
        });
        Ok(Response::new(silence(ended.await?)))
    }

    async fn list_deliveries(
        &self,
        request: Request<ListDeliveriesRequest>,
    ) -> Result<Response<ListDeliveriesResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let tenant = granted.tenant();
        let asked = entry.message;
        let page = asked.page.clone().unwrap_or_default();
        let (before, limit) = (super::cursor::<DeliveryId>(&page)?, super::limit(&page));
        let about = super::optional::<AlertId>(&asked.alert_id)?;
        let read = self.0.read(&granted, "alert-deliveries".into(), move |tx| {
            let (receiver, outcome) = (asked.receiver.clone(), asked.outcome.clone());
            Box::pin(async move {
                let wanted = |one: &Delivery| {
                    (receiver.is_empty() || one.receiver == receiver)
                        && (outcome.is_empty() || one.outcome.name() == outcome)
                        && about.is_none_or(|id| one.alerts.contains_key(&id))
                };
                Ok(aesp_alerts::deliveries(tx, tenant, wanted, before, limit).await?)
            })
        });
        let (found, next) = read.await?;
        Ok(Response::new(ListDeliveriesResponse {
            deliveries: found.into_iter().map(delivery).collect(),
            next_cursor: next.map(|next| next.to_string()).unwrap_or_default(),
        }))
    }

    async fn list_alert_receivers(
        &self,
        request: Request<ListAlertReceiversRequest>,
    ) -> Result<Response<ListAlertReceiversResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.grant(&entry, &entry.message.tenant_id).await?;
        let own = granted.caller().tenant() == PLATFORM;
        let receivers =
            self.0.alerts.receivers(granted.tenant()).into_iter().map(|(one, by_default)| AlertReceiver {
                name: one.name.clone(),
                kind: one.kind.name().into(),
                // What is asked for behind the path may be a secret.
                target: if own {
                    one.target.split('?').next().unwrap_or_default().to_owned()
                } else {
                    String::new()
                },
                by_default,
            });
        let receivers = receivers.collect();
        let answer = Ok(ListAlertReceiversResponse { receivers });
        Ok(Response::new(self.looked(&granted, "alert-receivers", answer).await?))
    }

    async fn test_alert_receiver(
        &self,
        request: Request<TestAlertReceiverRequest>,
    ) -> Result<Response<TestAlertReceiverResponse>, Status> {
        let entry = enter(request)?;
        let granted = self.0.access.permit_tenant(&entry.caller, &entry.action, PLATFORM).await?;
        let resource = format!("alert-receiver:{}", entry.message.name);
        let told = self.0.alerts.try_receiver(&entry.message.name, entry.caller.principal_id()).await;
        let told = self.0.settled(&granted, EventType::SystemEvent, &resource, told).await?;
        let mut event = granted.event(EventType::SystemEvent, Outcome::Success, resource);
        let (cause, trouble) = match told.trouble {
            None => (String::new(), String::new()),
            Some((cause, why)) => (cause.name().to_owned(), why),
        };
        if !cause.is_empty() {
            event.outcome = Outcome::Failure;
            event.details.reason = format!("{cause}: {trouble}");
        }
        self.0.recorder.append(vec![event]).await.map_err(Error::from)?;
        self.0.access.still(&granted).await?;
        Ok(Response::new(TestAlertReceiverResponse { taken: cause.is_empty(), cause, trouble }))
    }
}

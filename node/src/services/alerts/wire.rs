//! Rules, alerts, silences and deliveries as they go out.

use aesp_alerts::{Delivery, ListedAlert, RulesRow, Ruling, Silence};
use aesp_proto::{
    TenantId,
    v1::{Alert, AlertDelivery, AlertRule, AlertRulesVersion, AlertSilence},
};

pub(super) fn version(row: RulesRow, with_text: bool) -> AlertRulesVersion {
    AlertRulesVersion {
        version: row.version,
        text: if with_text { row.text } else { String::new() },
        author: row.author.to_string(),
        at_ms: row.at.0,
        comment: row.comment,
        rolled_back_to: row.rolled_back_to.unwrap_or_default(),
    }
}

pub(super) fn rule(ruling: Ruling) -> AlertRule {
    let form = ruling.form;
    // Names of kinds are those of the document.
    let kind = serde_json::to_value(form.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    AlertRule {
        definition_json: serde_json::to_string(&form).unwrap_or_default(),
        name: form.name,
        description: form.description,
        severity: form.severity.unwrap_or(aesp_alerts::Severity::Medium).name().into(),
        kind: kind.unwrap_or_default(),
        built_in: ruling.built_in,
        group_by: form.group_by,
        receivers: form.receivers,
    }
}

pub(super) fn alert(listed: ListedAlert, tenant: TenantId) -> Alert {
    let ListedAlert { alert, silenced_until } = listed;
    let by = alert.acknowledged.clone();
    Alert {
        alert_id: alert.id.to_string(),
        severity: alert.severity.name().into(),
        status: if alert.is_firing() { "firing" } else { "resolved" }.into(),
        acknowledged_by: by.as_ref().map(|by| by.by.to_string()).unwrap_or_default(),
        acknowledged_at_ms: by.as_ref().map(|by| by.at.0).unwrap_or_default(),
        note: by.map(|by| by.note).unwrap_or_default(),
        escalated: u32::try_from(alert.escalated()).unwrap_or(u32::MAX),
        silenced_until_ms: silenced_until.map(|until| until.0).unwrap_or_default(),
        rule: alert.rule,
        labels: alert.labels.into_iter().collect(),
        annotations: alert.annotations.into_iter().collect(),
        value: alert.value,
        began_ms: alert.began.0,
        ended_ms: alert.ended.map(|ended| ended.0).unwrap_or_default(),
        ended_because: alert.ended_because,
        receivers: alert.receivers,
        event_ids: alert.events.iter().map(ToString::to_string).collect(),
        dedup_key: alert.dedup_key,
        tenant_id: tenant.to_string(),
    }
}

pub(super) fn silence(one: Silence) -> AlertSilence {
    AlertSilence {
        silence_id: one.id.to_string(),
        matchers: one.matchers.iter().map(ToString::to_string).collect(),
        from_ms: one.from.0,
        until_ms: one.until.0,
        reason: one.reason,
        author: one.author.to_string(),
    }
}

pub(super) fn delivery(one: Delivery) -> AlertDelivery {
    AlertDelivery {
        delivery_id: one.id.to_string(),
        at_ms: one.at.0,
        receiver: one.receiver,
        group: one.group,
        alerts: one.alerts.into_iter().map(|(id, tell)| (id.to_string(), tell)).collect(),
        outcome: one.outcome.name().into(),
        attempts: one.attempts,
        cause: one.cause,
        trouble: one.why,
        took_ms: one.took_ms,
    }
}

use std::{borrow::Cow, sync::Arc};

use aesp_audit::{Event, Refused};
use aesp_proto::v1::{EventType, Outcome};
use tracing::{error, info, warn};

use crate::{link::Link, shared::Shared, state::Note, terms::Terms};

/// Writes what the audit log of every tenant served must hold about a connection.
fn append(
    shared: &Arc<Shared>,
    link: &Link,
    action: &'static str,
    outcome: Outcome,
    reason: &str,
    fields: &[(String, String)],
) {
    let terms = link.terms.load();
    let Some(terms) = terms.as_ref() else { return };
    let events = terms.tenants.iter().map(|tenant| {
        let mut event = Event::new(&shared.wiring.entropy, *tenant, EventType::SystemEvent, action, outcome);
        event.details.resource = terms.registration.runtime_id.clone();
        event.details.reason = reason.to_owned();
        event.details.source_ip = link.peer.address.map(|address| address.to_string()).unwrap_or_default();
        event.details.correlation_id = link.id.to_string();
        event.details.fields = about(terms);
        event.details.fields.extend_from_slice(fields);
        event
    });
    for event in events {
        let recorder = shared.wiring.recorder.clone();
        shared.duties.spawn(async move {
            if let Err(failure) = recorder.append(vec![event]).await {
                error!(action, error = %failure, "audit event about a runtime connection could not be written");
            }
        });
    }
}

fn about(terms: &Terms) -> Vec<(String, String)> {
    let identity = terms.registration.certificate_identity.clone();
    vec![("certificate_identity".to_owned(), identity), ("security_zone".to_owned(), terms.zone.clone())]
}

pub(crate) fn connected(shared: &Arc<Shared>, link: &Link) {
    append(shared, link, "runtime.connect", Outcome::Success, "", &[]);
    if let Some(terms) = link.terms.load().as_ref() {
        info!(connection = %link.id, runtime = terms.registration.runtime_id, "runtime connected");
    }
}

pub(crate) fn disconnected(shared: &Arc<Shared>, link: &Link, reason: &str) {
    append(shared, link, "runtime.disconnect", Outcome::Success, reason, &[]);
    info!(connection = %link.id, reason, "runtime disconnected");
}

pub(crate) fn note(shared: &Arc<Shared>, link: &Link, note: Note) {
    let metrics = &shared.wiring.metrics;
    match note {
        Note::Refused(code, text) => {
            metrics.refused.with_label_values(&["connection"]).inc();
            warn!(connection = %link.id, identities = ?link.peer.identities, reason = %text, "runtime connection refused");
            // Strangers can do this as often as they like.
            shared.wiring.recorder.observe_refused(Refused {
                source_ip: link.peer.address,
                action: Cow::Borrowed("runtime.connect"),
                reason: Cow::Borrowed(code.as_str_name()),
                tenant: None,
            });
        }
        Note::FulfilmentRefused(tools) => {
            metrics.refused.with_label_values(&["tool"]).inc_by(tools.len() as u64);
            let reason = format!("{} tools refused", tools.len());
            append(shared, link, "runtime.fulfill", Outcome::Denied, &reason, &fields(tools));
        }
        Note::Registered(names) => {
            let names = names.into_iter().map(|name| (name, "development".to_owned())).collect();
            append(shared, link, "runtime.register_tools", Outcome::Success, "", &fields(names));
        }
    }
}

/// The first ones stand for all, so that an event keeps a sensible size.
fn fields(tools: Vec<(String, String)>) -> Vec<(String, String)> {
    tools.into_iter().take(64).map(|(name, text)| (format!("tool {name}"), text)).collect()
}

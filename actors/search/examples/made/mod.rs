//! A store on LMDB with made-up events, as the measurements need it.

use std::{error::Error, path::Path, sync::Arc};

use aesp_audit::{Details, Event};
use aesp_cluster::{Fence, Ownership};
use aesp_proto::{
    Entropy, Incarnation, PrincipalId, SessionId, TenantId,
    v1::{EventType, Outcome},
};
use aesp_storage::{FileKeyProvider, LmdbOptions, Store};

pub(crate) const PRINCIPALS: u64 = 1_000;
pub(crate) const SESSION_EVENTS: u64 = 500;

pub(crate) struct Made {
    pub(crate) store: Store,
    pub(crate) tenant: TenantId,
    pub(crate) fence: Fence,
    pub(crate) entropy: Entropy,
}

impl Made {
    pub(crate) async fn new(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let provider = Arc::new(FileKeyProvider::create(&folder.join("master.key"))?);
        let store = Store::lmdb(&folder.join("store"), LmdbOptions::default(), provider).await?;
        store.initialise().await?;
        let entropy = Entropy::from_system();
        let tenant = TenantId::random(&entropy);
        store.run(move |tx| Box::pin(async move { tx.create_tenant_keys(tenant).await })).await?;
        let epochs = store.run(|tx| Box::pin(async move { tx.claim_shards(1).await })).await?;
        let fence = Ownership::all(Incarnation(1), &epochs).fence(tenant.as_bytes())?;
        Ok(Self { store, tenant, fence, entropy })
    }

    /// Returns an event as a call leaves it: its own invocation and correlation, one of a thousand principals, of twenty tools.
    pub(crate) fn event(&self, number: u64) -> Event {
        let outcome = match number % 50 {
            0 => Outcome::Denied,
            1 | 2 => Outcome::Failure,
            _ => Outcome::Success,
        };
        let kind = if number.is_multiple_of(10) { EventType::DataAccess } else { EventType::ToolInvocation };
        let action = if kind == EventType::DataAccess { "session.read" } else { "tool.invoke" };
        let mut event = Event::new(&self.entropy, self.tenant, kind, action, outcome);
        event.principal = Some(principal(number % PRINCIPALS));
        event.session = Some(SessionId::from_bytes(u128::from(number / SESSION_EVENTS).to_be_bytes()));
        event.details = Details {
            resource: format!("tool:tool_{}@1.0.0", number % 20),
            source_ip: format!("198.51.{}.{}", number % 7, number % 251),
            user_agent: "aesp-sdk-rust/0.1.0".into(),
            reason: if outcome == Outcome::Success {
                String::new()
            } else {
                "the policy does not allow it".into()
            },
            correlation_id: format!("correlation-{number}"),
            invocation_id: format!("invocation-{number}"),
            fields: vec![
                ("attempts".into(), "1".into()),
                ("runtime".into(), format!("worker-{}", number % 9)),
            ],
            ..Details::default()
        };
        event
    }
}

pub(crate) fn principal(number: u64) -> PrincipalId {
    PrincipalId::from_bytes((u128::from(number) | (7 << 100)).to_be_bytes())
}

/// User and system time of this process, in seconds, in ticks of 10 ms.
pub(crate) fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

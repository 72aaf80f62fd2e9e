//! What is done with several connections at once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use aesp_proto::{Error as Refusal, ErrorCode, TenantId, v1::ConnectedRuntime};
use futures::future::join_all;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use crate::{actor::Message, link::Link, shared::Shared, state::Farewell};

/// How long a connection may take to do as it is told.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

impl Shared {
    /// Returns the connections that `wanted` chooses.
    pub(crate) fn select(&self, wanted: impl Fn(&Link) -> bool) -> Vec<Arc<Link>> {
        self.links.iter().filter(|link| wanted(link)).map(|link| Arc::clone(link.value())).collect()
    }

    pub(crate) fn list(&self, tenant: Option<TenantId>) -> Vec<ConnectedRuntime> {
        let serves = |link: &Link| {
            link.serving.load(Ordering::Acquire) && tenant.is_none_or(|tenant| link.serves(tenant))
        };
        let mut listed: Vec<_> =
            self.select(serves).iter().filter_map(|link| describe(link, tenant)).collect();
        listed.sort_by(|a, b| (&a.runtime_id, &a.connection_id).cmp(&(&b.runtime_id, &b.connection_id)));
        listed
    }

    pub(crate) async fn close_registration(&self, runtime_id: &str) -> usize {
        let error = || Refusal::new(ErrorCode::PermissionDenied, "the Runtime's registration was revoked");
        self.close(self.select(|link| link.runs(runtime_id)), error).await
    }

    pub(crate) async fn close_identity(&self, identity: &str) -> usize {
        let error = || Refusal::new(ErrorCode::CertificateInvalid, "the Runtime's certificate was revoked");
        self.close(self.select(|link| link.peer.is(identity)), error).await
    }

    pub(crate) async fn recheck(&self, tenant: Option<TenantId>) {
        let tenant = tenant.filter(|tenant| *tenant != TenantId::PLATFORM);
        let links = self.select(|link| tenant.is_none_or(|tenant| link.serves(tenant)));
        ask(links, Message::Recheck).await;
    }

    pub(crate) fn drain(&self, runtime_id: &str, reason: &str, grace: Duration) -> usize {
        let links = self.select(|link| link.runs(runtime_id));
        let farewell = Farewell { reason: reason.to_owned(), grace, serve: true };
        links.iter().filter(|link| link.tell(Message::Drain(farewell.clone()))).count()
    }

    pub(crate) async fn go_away_all(&self, grace: Duration) {
        self.leaving.store(true, Ordering::Release);
        let until = Instant::now() + grace;
        let farewell = Farewell { reason: "the node shuts down".to_owned(), grace, serve: true };
        for link in self.select(|_| true) {
            link.tell(Message::Drain(farewell.clone()));
        }
        self.left(until).await;
        let error = || Refusal::new(ErrorCode::ServiceUnavailable, "the node shuts down");
        self.close(self.select(|_| true), error).await;
        self.left(Instant::now() + ANSWER).await;
        self.duties.close();
        // What is not written by then is logged by its own task.
        drop(timeout(ANSWER, self.duties.wait()).await);
    }

    async fn left(&self, until: Instant) {
        loop {
            let departed = self.departed.notified();
            tokio::pin!(departed);
            departed.as_mut().enable();
            if self.links.is_empty() || timeout_at(until, departed).await.is_err() {
                return;
            }
        }
    }

    async fn close(&self, links: Vec<Arc<Link>>, error: impl Fn() -> Refusal) -> usize {
        let count = links.len();
        ask(links, |done| Message::Close(error(), done)).await;
        count
    }
}

fn describe(link: &Arc<Link>, tenant: Option<TenantId>) -> Option<ConnectedRuntime> {
    let terms = link.terms.load();
    let terms = (**terms).as_ref()?;
    let shown = terms.tenants.iter().filter(|own| tenant.is_none_or(|tenant| tenant == **own));
    Some(ConnectedRuntime {
        runtime_id: terms.registration.runtime_id.clone(),
        connection_id: link.id.to_string(),
        state: link.state().to_owned(),
        outstanding: link.outstanding.load(Ordering::Relaxed),
        credits: link.credits.load(Ordering::Relaxed),
        tools: link.tools(tenant),
        connected_at_ms: link.connected_at.0,
        language: terms.language.clone(),
        version: terms.version.clone(),
        tenant_ids: shown.map(ToString::to_string).collect(),
    })
}

/// Sends each connection a message and waits until all have done it; one that has ended has nothing to do.
async fn ask(links: Vec<Arc<Link>>, message: impl Fn(oneshot::Sender<()>) -> Message) {
    let answers = links.iter().map(|link| {
        let (done, answer) = oneshot::channel();
        link.tell(message(done));
        answer
    });
    let answers = join_all(answers.collect::<Vec<_>>());
    if timeout(ANSWER, answers).await.is_err() {
        tracing::error!("a runtime connection did not answer in time");
    }
}

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use aesp_proto::Timestamp;
use rustls::{pki_types::CertificateDer, server::danger::ClientCertVerifier};
use tokio_util::sync::CancellationToken;

use super::{Metrics, PeerIdentity, clock::unix_time, refusal::certificate_reason};

/// The open connections of a node, so that those of a certificate that lost its standing are found and closed.
#[derive(Clone)]
pub(crate) struct Connections {
    inner: Arc<Mutex<Inner>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Inner {
    next: u64,
    live: HashMap<u64, Entry>,
}

struct Entry {
    cancel: CancellationToken,
    shown: Option<Shown>,
}

/// The certificates that a peer showed, and what they say.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) identity: Arc<PeerIdentity>,
    pub(super) chain: Arc<[CertificateDer<'static>]>,
}

impl Shown {
    /// Tells why the certificate would be refused now, if it would.
    pub(super) fn refusal(&self, verifier: &dyn ClientCertVerifier, now: Timestamp) -> Option<&'static str> {
        let (end_entity, intermediates) = self.chain.split_first()?;
        let Some(now) = unix_time(now) else { return Some("clock") };
        match verifier.verify_client_cert(end_entity, intermediates, now) {
            Ok(_) => None,
            Err(rustls::Error::InvalidCertificate(error)) => Some(certificate_reason(&error)),
            Err(_) => Some("bad_certificate"),
        }
    }
}

impl Connections {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self { inner: Arc::default(), metrics }
    }

    /// Adds a connection; it is forgotten when the returned guard is dropped.
    pub(super) fn register(&self, shown: Option<Shown>) -> Registered {
        let cancel = CancellationToken::new();
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.live.insert(id, Entry { cancel: cancel.clone(), shown });
        Registered { id, cancel, connections: self.clone() }
    }

    /// Returns how many connections are open.
    pub(crate) fn count(&self) -> usize {
        self.lock().live.len()
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        self.lock().live.values().for_each(|entry| entry.cancel.cancel());
    }

    /// Closes the connections whose certificate has ended; cheap enough for every second.
    pub(super) fn close_expired(&self, now: Timestamp) {
        self.close(|shown| (shown.identity.not_after < now).then_some("expired"));
    }

    /// Closes the connections whose certificate the verifier would refuse now.
    pub(super) fn close_refused(&self, verifier: &dyn ClientCertVerifier, now: Timestamp) {
        self.close(|shown| shown.refusal(verifier, now));
    }

    fn close(&self, verdict: impl Fn(&Shown) -> Option<&'static str>) {
        // Verified outside the lock: a signature check a connection.
        let shown: Vec<_> = {
            let inner = self.lock();
            inner.live.values().filter_map(|e| Some((e.cancel.clone(), e.shown.clone()?))).collect()
        };
        for (cancel, shown) in shown.into_iter().filter(|(cancel, _)| !cancel.is_cancelled()) {
            if let Some(reason) = verdict(&shown) {
                let PeerIdentity { identity, serial, .. } = &*shown.identity;
                tracing::warn!(%identity, %serial, reason, "connection closed for its certificate");
                self.metrics.closed.with_label_values(&[reason]).inc();
                cancel.cancel();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A connection's place in the registry.
pub(super) struct Registered {
    id: u64,
    pub(super) cancel: CancellationToken,
    connections: Connections,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.lock().live.remove(&self.id);
    }
}

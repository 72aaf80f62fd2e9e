//! Several nodes, one connection at a time: the one that answered last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aesp_proto::{Error, ErrorCode};
use arc_swap::ArcSwapOption;
use tokio::{sync::Mutex, time::Instant};
use tracing::debug;

use crate::{endpoint::Endpoint, flight::Failure, tls::Tls, transport::Connection};

/// The nodes of one Host. Cheap to share.
#[derive(Debug)]
pub(crate) struct Pool {
    endpoints: Vec<Endpoint>,
    tls: Tls,
    connect_timeout: Duration,
    preferred: AtomicUsize,
    current: ArcSwapOption<Connection>,
    connecting: Mutex<Option<Failure>>,
}

impl Pool {
    pub(crate) fn new(endpoints: Vec<Endpoint>, tls: Tls, connect_timeout: Duration) -> Result<Self, Error> {
        if endpoints.is_empty() {
            return Err(Error::new(ErrorCode::ConfigurationError, "no endpoint is given")
                .remedy("name at least one node, as https://host:port"));
        }
        Ok(Self {
            endpoints,
            tls,
            connect_timeout,
            preferred: AtomicUsize::new(0),
            current: ArcSwapOption::empty(),
            connecting: Mutex::default(),
        })
    }

    /// Returns the live connection, or opens one: to the preferred node first, then to each other. Those who wait for the same
    /// attempt share its failure.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let asked = Instant::now();
        let mut last = self.connecting.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        if let Some(failure) = last.as_ref().filter(|failure| failure.at >= asked) {
            return Err(failure.error());
        }
        self.open().await.inspect_err(|error| *last = Some(Failure::new(error)))
    }

    async fn open(&self) -> Result<Arc<Connection>, Error> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for step in 0..self.endpoints.len() {
            let index = (first + step) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            match Connection::open(endpoint, &self.tls, self.connect_timeout).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    self.preferred.store(index, Ordering::Relaxed);
                    self.current.store(Some(Arc::clone(&connection)));
                    return Ok(connection);
                }
                Err(error) => {
                    debug!(%endpoint, %error, "connection failed");
                    last = Some(error);
                }
            }
        }
        Err(last.expect("there is at least one endpoint"))
    }

    /// Turns away from a node that said it can't serve. Requests under way on it go on.
    pub(crate) fn leave(&self, connection: &Connection) {
        let Some(current) = self.current.load_full().filter(|current| current.same(connection)) else {
            return;
        };
        if self.endpoints.len() > 1 || current.is_closed() {
            let previous = self.current.compare_and_swap(&current, None);
            if previous.as_ref().is_some_and(|p| Arc::ptr_eq(p, &current)) {
                let next = (self.preferred.load(Ordering::Relaxed) + 1) % self.endpoints.len();
                self.preferred.store(next, Ordering::Relaxed);
            }
        }
    }

    /// Returns how many nodes there are to choose from.
    pub(crate) fn size(&self) -> usize {
        self.endpoints.len()
    }

    fn live(&self) -> Option<Arc<Connection>> {
        self.current.load_full().filter(|connection| !connection.is_closed())
    }
}

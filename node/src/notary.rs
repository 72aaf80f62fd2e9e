//! An independent witness over HTTPS (`aesp witness run`): C2SP tlog-witness, for the logs that its operator names.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use aesp_merkle::witness::REQUEST_BYTES;
use aesp_proto::{Clock, SystemClock};
use aesp_witness::Notary;
use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path as At, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once: logs are few.
const CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEADERS: Duration = Duration::from_secs(10);
/// How long one connection may last: what waits for nothing is closed.
const CONNECTION: Duration = Duration::from_secs(600);
/// How long the acceptor waits when the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A witness whose address is bound and not served yet.
pub(crate) struct Bound {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    router: Router,
}

impl Bound {
    /// Loads the certificate and binds the address.
    ///
    /// # Errors
    /// When a file can't be used, or the address is taken.
    pub(crate) async fn bind(
        notary: Notary,
        listen: SocketAddr,
        certificate: &Path,
        key: &Path,
    ) -> anyhow::Result<Self> {
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect)
            .with_context(|| format!("{} is no certificate in PEM", certificate.display()))?;
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("{} is no private key in PEM", key.display()))?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("can't listen at {listen}"))?;
        let router = Router::new()
            .route("/add-checkpoint", post(add))
            .route("/{origin_hash}/checkpoint", get(checkpoint))
            .route("/healthz", get(|| async { "ok\n" }))
            .layer(DefaultBodyLimit::max(REQUEST_BYTES))
            .with_state(Arc::new(notary));
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)), router })
    }

    /// Returns where it listens; for port 0, the one that it got.
    ///
    /// # Errors
    /// When the system can't tell.
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; then returns when the running requests have been answered.
    pub(crate) async fn serve(self, stop: CancellationToken) {
        let Self { listener, acceptor, router } = self;
        let (open, limit) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS)));
        while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
            let Ok((socket, _)) = accepted else {
                sleep(EXHAUSTED).await;
                continue;
            };
            // Above the limit a connection is closed at once.
            let Ok(permit) = Arc::clone(&limit).try_acquire_owned() else { continue };
            let (acceptor, router, stop) = (acceptor.clone(), router.clone(), stop.clone());
            open.spawn(async move {
                connection(socket, acceptor, router, stop).await;
                drop(permit);
            });
        }
        drop(listener);
        open.close();
        open.wait().await;
    }
}

async fn connection(socket: TcpStream, acceptor: TlsAcceptor, router: Router, stop: CancellationToken) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(socket)).await else { return };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(HEADERS));
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = timeout(CONNECTION, &mut serving) => ended.unwrap_or(Ok(())),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a log's connection ended");
    }
}

/// What was cosigned last, for those who monitor the log. It waits for the disk, behind whoever is being cosigned for.
async fn checkpoint(State(notary): State<Arc<Notary>>, At(origin_hash): At<String>) -> Response {
    match tokio::task::spawn_blocking(move || notary.checkpoint(&origin_hash)).await {
        Ok(Some(note)) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], note).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn add(State(notary): State<Arc<Notary>>, body: Bytes) -> Response {
    let time = u64::try_from(SystemClock.now().0.div_euclid(1_000)).unwrap_or_default();
    // It waits for the disk.
    let answered = tokio::task::spawn_blocking(move || notary.add(&body, time)).await;
    match answered {
        Ok(reply) => {
            let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            tracing::info!(status = reply.status, "a checkpoint was to be cosigned");
            (status, [(header::CONTENT_TYPE, reply.content_type)], reply.body).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

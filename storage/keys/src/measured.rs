use std::{future::Future, sync::Arc};

use aesp_storage::{Error, KeyProvider, KeyVersion};
use async_trait::async_trait;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use tokio::time::Instant;

/// What is counted of a key provider.
#[derive(Clone)]
pub struct Metrics {
    seconds: HistogramVec,
    failures: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "aesp_keys_provider_seconds",
            "How long the key provider took to answer, by operation.",
        )
        .buckets(vec![0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]);
        let metrics = Self {
            seconds: HistogramVec::new(seconds, &["operation"])?,
            failures: IntCounterVec::new(
                Opts::new(
                    "aesp_keys_provider_failures_total",
                    "Questions that the key provider did not answer, by operation and reason.",
                ),
                &["operation", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    async fn measure<T>(
        &self,
        operation: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let answer = answer.await;
        self.seconds.with_label_values(&[operation]).observe(began.elapsed().as_secs_f64());
        if let Err(error) = &answer {
            self.failures.with_label_values(&[operation, reason(error)]).inc();
        }
        answer
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::KeyProviderAway(_) => "away",
        Error::KeyProviderDenied(_) => "denied",
        Error::MasterKeyGone(_) => "gone",
        Error::WrongMasterKey => "wrong_key",
        _ => "other",
    }
}

/// A key provider whose answers are measured.
pub struct Measured {
    provider: Arc<dyn KeyProvider>,
    metrics: Metrics,
}

impl Measured {
    /// Measures a provider.
    #[must_use]
    pub fn new(provider: Arc<dyn KeyProvider>, metrics: Metrics) -> Self {
        Self { provider, metrics }
    }
}

#[async_trait]
impl KeyProvider for Measured {
    async fn wrap(&self, key: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.metrics.measure("wrap", self.provider.wrap(key, aad)).await
    }

    async fn unwrap(&self, wrapped: &[u8], aad: &[u8]) -> Result<Vec<u8>, Error> {
        self.metrics.measure("unwrap", self.provider.unwrap(wrapped, aad)).await
    }

    fn version_of(&self, wrapped: &[u8]) -> Result<KeyVersion, Error> {
        self.provider.version_of(wrapped)
    }

    async fn current(&self) -> Result<KeyVersion, Error> {
        self.metrics.measure("current", self.provider.current()).await
    }

    async fn rotate(&self) -> Result<KeyVersion, Error> {
        self.metrics.measure("rotate", self.provider.rotate()).await
    }

    fn describe(&self) -> String {
        self.provider.describe()
    }
}

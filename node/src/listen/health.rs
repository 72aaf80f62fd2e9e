use std::time::Duration;

use tokio::time::interval;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::Readiness;

const INTERVAL: Duration = Duration::from_secs(1);
/// The service name that stands for the whole server.
///
/// Source: gRPC health checking protocol.
const WHOLE_SERVER: &str = "";

/// Keeps the gRPC health service true for the server and for each of its services.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
    services: Vec<String>,
}

impl Health {
    pub(super) fn new(reporter: HealthReporter, readiness: Readiness) -> Self {
        let operations = aesp_proto::Operations::load();
        let mut services: Vec<String> = vec![WHOLE_SERVER.into()];
        let here = operations.iter().filter(|(_, operation)| operation.access != aesp_proto::Access::Peer);
        services.extend(here.filter_map(|(path, _)| Some(path.split('/').nth(1)?.to_owned())));
        services.dedup();
        Self { reporter, readiness, services }
    }

    /// Reports what is true now.
    pub(crate) async fn report(&self) {
        let status =
            if self.readiness.check().is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Reports every second, until it is dropped.
    pub(crate) async fn follow(self) {
        let mut ticks = interval(INTERVAL);
        loop {
            ticks.tick().await;
            self.report().await;
        }
    }
}

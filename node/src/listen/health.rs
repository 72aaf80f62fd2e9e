use std::time::Duration;

use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::time::interval;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::Readiness;

const INTERVAL: Duration = Duration::from_secs(1);
/// The service name that stands for the whole server.
///
/// Source: gRPC health checking protocol.
const WHOLE_SERVER: &str = "";

/// Keeps the gRPC health service true: for the server, for each of its services, and for each component of the node by the name
/// `aesp.<component>`.
#[derive(Clone)]
pub(crate) struct Health {
    reporter: HealthReporter,
    readiness: Readiness,
    services: Vec<String>,
    /// 1 for a component that does its work.
    gauge: IntGaugeVec,
}

impl Health {
    pub(super) fn new(
        reporter: HealthReporter,
        readiness: Readiness,
        registry: &Registry,
    ) -> Result<Self, prometheus::Error> {
        let operations = aesp_proto::Operations::load();
        let mut services: Vec<String> = vec![WHOLE_SERVER.into()];
        let here = operations.iter().filter(|(_, operation)| operation.access != aesp_proto::Access::Peer);
        services.extend(here.filter_map(|(path, _)| Some(path.split('/').nth(1)?.to_owned())));
        services.dedup();
        let gauge = IntGaugeVec::new(
            Opts::new("aesp_component_ready", "1 for a component that does its work, 0 otherwise."),
            &["component"],
        )?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self { reporter, readiness, services, gauge })
    }

    /// Reports what is true now.
    pub(crate) async fn report(&self) {
        let components = self.readiness.components();
        let status = serving(self.readiness.judge(&components).is_ok());
        for service in &self.services {
            self.reporter.set_service_status(service, status).await;
        }
        for component in components {
            let works = component.state.is_ok();
            self.gauge.with_label_values(&[component.name]).set(works.into());
            self.reporter.set_service_status(format!("aesp.{}", component.name), serving(works)).await;
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

fn serving(works: bool) -> ServingStatus {
    if works { ServingStatus::Serving } else { ServingStatus::NotServing }
}

//! The gRPC services: each RPC authenticates in the guard, asks for its grant, and does one thing under it.

mod access_report;
mod agent;
mod alerts;
mod audit;
mod audit_sinks;
pub(crate) mod authentication;
mod authorization;
mod backup;
mod catalog;
mod cluster;
mod configuration;
mod context;
mod everywhere;
pub(crate) mod identity;
mod join;
mod keys;
mod page;
mod platform_log;
mod policy;
mod proofs;
mod registry;
mod retention;
mod runtime;
pub(crate) mod tenant;
#[cfg(test)]
mod tests;

use aesp_proto::v1::{
    access_report_service_server::AccessReportServiceServer, agent_service_server::AgentServiceServer,
    alert_service_server::AlertServiceServer, audit_sink_service_server::AuditSinkServiceServer,
    backup_service_server::BackupServiceServer, catalog_service_server::CatalogServiceServer,
    cluster_service_server::ClusterServiceServer,
    enterprise_audit_service_server::EnterpriseAuditServiceServer,
    enterprise_authentication_service_server::EnterpriseAuthenticationServiceServer,
    enterprise_authorization_service_server::EnterpriseAuthorizationServiceServer,
    enterprise_configuration_service_server::EnterpriseConfigurationServiceServer,
    enterprise_identity_service_server::EnterpriseIdentityServiceServer,
    enterprise_policy_service_server::EnterprisePolicyServiceServer, key_service_server::KeyServiceServer,
    platform_log_service_server::PlatformLogServiceServer, retention_service_server::RetentionServiceServer,
    runtime_registry_service_server::RuntimeRegistryServiceServer,
    runtime_service_server::RuntimeServiceServer, tenant_service_server::TenantServiceServer,
};
use tonic::{codec::CompressionEncoding, service::Routes};

pub(crate) use audit::Followers;
pub(crate) use context::{Context, Entry, enter, origin};
pub(crate) use page::{cursor, limit, optional, parse};

/// How a client may encode its messages. The limit holds for what is decoded.
const GZIP: CompressionEncoding = CompressionEncoding::Gzip;

/// Makes the routes of every service. Messages above `message_bytes` are refused.
pub(crate) fn routes(context: &Context, message_bytes: usize) -> Routes {
    let own = || context.clone();
    let agent = AgentServiceServer::new(agent::Agent(own()));
    let runtime = RuntimeServiceServer::new(runtime::Runtime(own()));
    let catalog = CatalogServiceServer::new(catalog::Catalog(own()));
    let authentication = EnterpriseAuthenticationServiceServer::new(authentication::Authentication(own()));
    let authorization = EnterpriseAuthorizationServiceServer::new(authorization::Authorization(own()));
    let configuration = EnterpriseConfigurationServiceServer::new(configuration::Configuration(own()));
    let identity = EnterpriseIdentityServiceServer::new(identity::Identity(own()));
    let policy = EnterprisePolicyServiceServer::new(policy::Policies(own()));
    let registry = RuntimeRegistryServiceServer::new(registry::Registry(own()));
    let audit = EnterpriseAuditServiceServer::new(audit::Audit(own()));
    let sinks = AuditSinkServiceServer::new(audit_sinks::AuditSinks(own()));
    let platform_log = PlatformLogServiceServer::new(platform_log::PlatformLogs(own()));
    let retention = RetentionServiceServer::new(retention::Retention(own()));
    let reports = AccessReportServiceServer::new(access_report::AccessReports(own()));
    let alerts = AlertServiceServer::new(alerts::Alerts(own()));
    let tenant = TenantServiceServer::new(tenant::Tenants(own()));
    let cluster = ClusterServiceServer::new(cluster::Nodes(own()));
    let backup = BackupServiceServer::new(backup::Backup(own()));
    let keys = KeyServiceServer::new(keys::Keys(own()));
    // What strangers may call takes no encoding: they are to cost little.
    Routes::new(agent.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(runtime.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(catalog.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(authentication)
        .add_service(authorization.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(configuration.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(identity.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(policy.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(registry.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(audit.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(sinks.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(platform_log.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(retention.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(reports.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(alerts.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(tenant.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(keys.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(cluster.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
        .add_service(backup.max_decoding_message_size(message_bytes).accept_compressed(GZIP))
}

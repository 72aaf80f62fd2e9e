use aesp_proto::v1;
use clap::{Args, Subcommand};

use super::{context::Context, failure::Failure, page::Page, tenant_config::TenantConfig};

const COLUMNS: &[&str] = &["name", "tenant_id", "status", "display_name", "created_at_ms"];

#[derive(Subcommand, Debug)]
pub(crate) enum Tenant {
    /// Make a tenant.
    Create {
        /// Lower-case letters, digits and hyphens; unique.
        name: String,
        /// For people.
        #[arg(long, default_value = "")]
        display_name: String,
        #[command(flatten)]
        quotas: Quotas,
    },
    /// List tenants.
    List(Page),
    /// Show one, by name or id.
    Show { tenant: String },
    /// Show what a tenant uses of its quotas.
    Usage { tenant: String },
    /// Refuse its calls from now on, and cancel those that run.
    Suspend {
        tenant: String,
        #[arg(long)]
        reason: String,
    },
    /// Take its calls again.
    Resume { tenant: String },
    /// Destroy its keys: its data can't be read by anyone any more. The audit log stays verifiable.
    Delete {
        tenant: String,
        /// The tenant's name once more.
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
    /// Change its quotas.
    Quota {
        tenant: String,
        #[command(flatten)]
        quotas: Quotas,
    },
    /// Its configuration.
    #[command(subcommand)]
    Config(TenantConfig),
}

/// 0 stands for the platform's default.
#[derive(Args, Debug)]
pub(crate) struct Quotas {
    /// Sessions at once.
    #[arg(long, default_value_t = 0)]
    sessions: u32,
    /// Calls at once.
    #[arg(long, default_value_t = 0)]
    calls_in_flight: u32,
    /// Calls a second.
    #[arg(long, default_value_t = 0)]
    calls_per_second: u32,
    /// Connected Runtimes.
    #[arg(long, default_value_t = 0)]
    runtimes: u32,
}

impl From<Quotas> for Option<v1::Quotas> {
    fn from(quotas: Quotas) -> Self {
        let Quotas { sessions, calls_in_flight, calls_per_second, runtimes } = quotas;
        Some(v1::Quotas { sessions, calls_in_flight, calls_per_second, runtimes })
    }
}

impl Tenant {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        if let Self::Config(command) = self {
            return command.run(ctx).await;
        }
        let mut tenants = ctx.client()?.tenants();
        let tenant = match self {
            Self::Create { name, display_name, quotas } => {
                let quotas = quotas.into();
                let request = v1::CreateTenantRequest { name, display_name, quotas, ..Default::default() };
                tenants.create_tenant(request).await?
            }
            Self::Show { tenant: tenant_id } => {
                tenants.get_tenant(v1::GetTenantRequest { tenant_id }).await?
            }
            Self::Suspend { tenant: tenant_id, reason } => {
                tenants.suspend_tenant(v1::SuspendTenantRequest { tenant_id, reason }).await?
            }
            Self::Resume { tenant: tenant_id } => {
                tenants.resume_tenant(v1::ResumeTenantRequest { tenant_id }).await?
            }
            Self::Quota { tenant: tenant_id, quotas } => {
                let request = v1::UpdateTenantQuotasRequest { tenant_id, quotas: quotas.into() };
                tenants.update_tenant_quotas(request).await?
            }
            Self::List(page) => {
                let answer = tenants.list_tenants(v1::ListTenantsRequest { page: page.into() }).await?;
                return ctx.show_list("ListTenantsResponse", answer, "tenants", COLUMNS);
            }
            Self::Usage { tenant: tenant_id } => {
                let answer = tenants.get_tenant_usage(v1::GetTenantUsageRequest { tenant_id }).await?;
                return ctx.show("TenantUsage", answer);
            }
            Self::Delete { tenant: tenant_id, confirm: confirm_name } => {
                let request = v1::DeleteTenantRequest { tenant_id, confirm_name };
                return ctx.show("DeleteTenantResponse", tenants.delete_tenant(request).await?);
            }
            Self::Config(_) => unreachable!("handled above"),
        };
        ctx.show("Tenant", tenant)
    }
}

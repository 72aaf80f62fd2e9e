use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure};

/// The keys that protect the data.
#[derive(Subcommand, Debug)]
pub(crate) enum Key {
    /// Show the key provider, what is still wrapped under older versions of the master key, and rotations that are not over.
    Status {
        /// Show this tenant's keys as well.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Rotate the master key; with --tenant, the data key of a tenant. What is old is made new in the background.
    Rotate {
        /// Whose data key.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Have every tenant's keys wrapped under the newest version of the master key.
    Rewrap,
    /// Destroy a tenant's keys, and so delete it: nothing that was sealed under them can be read by anyone any more, here or in any backup.
    Destroy {
        /// Whose.
        #[arg(long)]
        tenant: String,
        /// The tenant's name once more.
        #[arg(long, value_name = "NAME")]
        confirm: String,
    },
}

impl Key {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let client = ctx.client()?;
        let mut keys = client.keys();
        match self {
            Self::Status { tenant } => {
                let request = v1::GetKeyStatusRequest { tenant_id: tenant.unwrap_or_default() };
                ctx.show("KeyStatus", keys.get_key_status(request).await?)
            }
            Self::Rotate { tenant: None } => {
                let answer = keys.rotate_master_key(v1::RotateMasterKeyRequest {}).await?;
                ctx.show("RotateMasterKeyResponse", answer)?;
                ctx.console.note("Next, until nothing is under older versions:  aesp key status")
            }
            Self::Rotate { tenant: Some(tenant_id) } => {
                let answer = keys.rotate_data_key(v1::RotateDataKeyRequest { tenant_id }).await?;
                ctx.show("RotateDataKeyResponse", answer)?;
                ctx.console.note("Next, until the rotation is over:  aesp key status")
            }
            Self::Rewrap => {
                let answer = keys.rewrap_keys(v1::RewrapKeysRequest {}).await?;
                ctx.show("RewrapKeysResponse", answer)
            }
            Self::Destroy { tenant: tenant_id, confirm: confirm_name } => {
                let request = v1::DeleteTenantRequest { tenant_id: tenant_id.clone(), confirm_name };
                let answer = client.tenants().delete_tenant(request).await?;
                ctx.show("DeleteTenantResponse", answer)?;
                ctx.console.note(&format!(
                    "The keys of {tenant_id} are destroyed. Its configuration, accounts, contracts, roles, policies, sessions, outcomes of \
                     calls and the\nsensitive fields of its audit events can't be read any more, in this store and in every backup of it \
                     that holds no copy of the keys.\nWhat stays: its name, so that nobody else gets it, and its audit log as hashes, which \
                     still verifies."
                ))
            }
        }
    }
}

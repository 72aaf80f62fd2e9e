use std::path::PathBuf;

use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, file, page::Page};

const COLUMNS: &[&str] = &["name", "policy_id", "version", "enabled", "created_at", "created_by"];

#[derive(Subcommand, Debug)]
pub(crate) enum Policy {
    /// Add the Cedar policies of a file.
    Create {
        name: String,
        /// Cedar source; `-` for standard input.
        #[arg(long, short)]
        file: PathBuf,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List policies.
    List(Page),
    /// Show one.
    Show { policy: String },
    /// Delete one.
    Delete { policy: String },
    /// Check Cedar source against the Host's schema; nothing is stored.
    Validate {
        /// `-` for standard input.
        #[arg(long, short)]
        file: PathBuf,
    },
}

impl Policy {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut policies = ctx.client()?.policies();
        match self {
            Self::Create { name, file, description } => {
                let text = file::text(&file)?;
                let request = v1::CreatePolicyRequest { tenant_id, name, description, text };
                ctx.show("Policy", policies.create_policy(request).await?)
            }
            Self::List(page) => {
                let request = v1::ListPoliciesRequest { tenant_id, page: page.into() };
                ctx.show_list(
                    "ListPoliciesResponse",
                    policies.list_policies(request).await?,
                    "policies",
                    COLUMNS,
                )
            }
            Self::Show { policy: policy_id } => {
                ctx.show("Policy", policies.get_policy(v1::GetPolicyRequest { tenant_id, policy_id }).await?)
            }
            Self::Delete { policy: policy_id } => {
                let request = v1::DeletePolicyRequest { tenant_id, policy_id };
                ctx.show("DeletePolicyResponse", policies.delete_policy(request).await?)
            }
            Self::Validate { file } => {
                let request = v1::ValidatePolicyRequest { tenant_id, text: file::text(&file)? };
                let answer = policies.validate_policy(request).await?;
                let valid = answer.get_ref().valid;
                ctx.show("ValidatePolicyResponse", answer)?;
                if valid {
                    Ok(())
                } else {
                    Err(Failure::local("the policies are not valid", "correct what is listed"))
                }
            }
        }
    }
}

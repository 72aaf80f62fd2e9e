use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, page::Page};

const COLUMNS: &[&str] = &["name", "inherits", "grants", "built_in", "description"];

#[derive(Subcommand, Debug)]
pub(crate) enum Role {
    /// Make a role. It allows nothing that it does not grant.
    Create {
        name: String,
        #[arg(long, default_value = "")]
        description: String,
        /// A role whose grants this one has too; may be repeated.
        #[arg(long)]
        inherits: Vec<String>,
        /// ACTIONS=RESOURCES, for example `tool.invoke=tool:git_log,tag:vcs` or `session.*=*`; may be repeated.
        #[arg(long, value_parser = grant)]
        grant: Vec<v1::Grant>,
    },
    /// List roles.
    List(Page),
    /// Delete a role; who had it loses it.
    Delete { name: String },
    /// Give an account a role.
    Assign {
        role: String,
        /// Name or id of the account.
        #[arg(long = "to", value_name = "ACCOUNT")]
        account: String,
        /// When it ends, in milliseconds since 1970; 0 for never.
        #[arg(long, default_value_t = 0)]
        expires_at_ms: i64,
    },
    /// Take a role from an account. Holds from the moment this returns.
    Revoke {
        role: String,
        #[arg(long = "from", value_name = "ACCOUNT")]
        account: String,
    },
}

fn grant(text: &str) -> Result<v1::Grant, String> {
    let list =
        |part: &str| part.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
    let (actions, resources) =
        text.split_once('=').ok_or("write ACTIONS=RESOURCES, for example tool.invoke=tool:git_log")?;
    let grant = v1::Grant { actions: list(actions), resources: list(resources) };
    if grant.actions.is_empty() || grant.resources.is_empty() {
        return Err("a grant needs at least one action and one resource".into());
    }
    Ok(grant)
}

impl Role {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut authorization = ctx.client()?.authorization();
        match self {
            Self::Create { name, description, inherits, grant: grants } => {
                let role = v1::Role { name, description, inherits, grants, ..Default::default() };
                let request = v1::CreateRoleRequest { tenant_id, role: Some(role) };
                ctx.show("Role", authorization.create_role(request).await?)
            }
            Self::List(page) => {
                let request = v1::ListRolesRequest { tenant_id, page: page.into() };
                ctx.show_list("ListRolesResponse", authorization.list_roles(request).await?, "roles", COLUMNS)
            }
            Self::Delete { name } => {
                let request = v1::DeleteRoleRequest { tenant_id, name };
                ctx.show("DeleteRoleResponse", authorization.delete_role(request).await?)
            }
            Self::Assign { role, account: principal_id, expires_at_ms } => {
                let request = v1::AssignRoleRequest { tenant_id, principal_id, role, expires_at_ms };
                ctx.show("AssignRoleResponse", authorization.assign_role(request).await?)
            }
            Self::Revoke { role, account: principal_id } => {
                let request = v1::RevokeRoleRequest { tenant_id, principal_id, role };
                ctx.show("RevokeRoleResponse", authorization.revoke_role(request).await?)
            }
        }
    }
}

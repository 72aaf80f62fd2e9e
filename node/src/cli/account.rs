use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, page::Page};

const COLUMNS: &[&str] = &["name", "principal_id", "type", "status", "roles", "created_at_ms"];

#[derive(Subcommand, Debug)]
pub(crate) enum Account {
    /// Make a service account. Its API key is shown once.
    Create {
        name: String,
        /// May be repeated.
        #[arg(long = "role")]
        roles: Vec<String>,
    },
    /// List principals.
    List {
        /// Service accounts only.
        #[arg(long)]
        service_accounts: bool,
        #[command(flatten)]
        page: Page,
    },
    /// Show one, by name or id.
    Show { account: String },
    /// End it: its keys, tokens and sessions stop working.
    Revoke { account: String },
    /// Give it a new API key, shown once; the old one stops working.
    RotateKey { account: String },
    /// Let a certificate of the client authority act as the account.
    BindCertificate {
        account: String,
        /// The SPIFFE id or DNS name in the certificate.
        #[arg(long)]
        identity: String,
    },
}

impl Account {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut identity = ctx.client()?.identity();
        match self {
            Self::Create { name, roles } => {
                let request = v1::CreateServiceAccountRequest { tenant_id, name, roles };
                key_shown_once(ctx, identity.create_service_account(request).await?)
            }
            Self::RotateKey { account: principal_id } => {
                let request = v1::RotateApiKeyRequest { tenant_id, principal_id };
                key_shown_once(ctx, identity.rotate_api_key(request).await?)
            }
            Self::List { service_accounts: true, page } => {
                let request = v1::ListServiceAccountsRequest { tenant_id, page: page.into() };
                let answer = identity.list_service_accounts(request).await?;
                ctx.show_list("ListPrincipalsResponse", answer, "principals", COLUMNS)
            }
            Self::List { service_accounts: false, page } => {
                let request =
                    v1::ListPrincipalsRequest { tenant_id, page: page.into(), ..Default::default() };
                let answer = identity.list_principals(request).await?;
                ctx.show_list("ListPrincipalsResponse", answer, "principals", COLUMNS)
            }
            Self::Show { account: principal_id } => {
                let request = v1::GetPrincipalDetailsRequest { tenant_id, principal_id };
                ctx.show("Principal", identity.get_principal_details(request).await?)
            }
            Self::Revoke { account: principal_id } => {
                let request = v1::RevokeServiceAccountRequest { tenant_id, principal_id };
                ctx.show("Principal", identity.revoke_service_account(request).await?)
            }
            Self::BindCertificate { account: principal_id, identity: certificate_identity } => {
                let request = v1::BindCertificateRequest { tenant_id, principal_id, certificate_identity };
                ctx.show("Principal", identity.bind_certificate(request).await?)
            }
        }
    }
}

fn key_shown_once(
    ctx: &Context,
    answer: tonic::Response<v1::CreateServiceAccountResponse>,
) -> Result<(), Failure> {
    ctx.show("CreateServiceAccountResponse", answer)?;
    ctx.console.note("The API key is not shown again: store it now.")
}

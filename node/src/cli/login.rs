use aesp_proto::v1::AuthenticateServiceAccountRequest;
use clap::Args;
use serde_json::json;

use super::{context::Context, failure::Failure};

/// Remembers --endpoint, --ca, --token (or AESP_API_KEY), --client-cert, --client-key and --tenant, after trying them.
#[derive(Args, Debug)]
pub(crate) struct Login {
    /// Forget everything instead.
    #[arg(long)]
    forget: bool,
}

impl Login {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let path = ctx.profile_path.as_deref().ok_or_else(|| {
            Failure::usage("there is no home directory to remember it in", "give --profile FILE")
        })?;
        if self.forget {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let mut profile = ctx.profile.clone();
        // Seen from anywhere later on.
        for file in [&mut profile.ca, &mut profile.client_cert, &mut profile.client_key].into_iter().flatten()
        {
            *file = std::path::absolute(&*file)?;
        }
        let mut shown = json!({ "profile": path, "endpoint": profile.endpoint });
        if let Some(api_key) = profile.token.clone().filter(|token| token.starts_with("aesp_")) {
            let mut authentication = ctx.client()?.authentication();
            let request = AuthenticateServiceAccountRequest { api_key };
            let answer = authentication.authenticate_service_account(request).await?.into_inner();
            shown["principal_id"] = answer.principal_id.into();
            shown["tenant_id"] = answer.tenant_id.into();
        } else {
            // Fails here rather than later when files or addresses are wrong.
            ctx.client()?;
        }
        profile.write(path)?;
        ctx.console.value(&shown)
    }
}

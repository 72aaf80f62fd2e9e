use aesp_proto::v1;
use clap::Subcommand;

use crate::cli::{context::Context, failure::Failure};

#[derive(Subcommand, Debug)]
pub(crate) enum Index {
    /// Tell how far the index is; what it does not hold yet is read from the log.
    Status,
    /// Have the index made anew from the log, for example after a repair of the store.
    Rebuild,
}

impl Index {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let (client, tenant_id) = (ctx.client()?, ctx.tenant());
        match self {
            Self::Status => {
                let answer = client.audit().get_audit_index(v1::GetAuditIndexRequest { tenant_id }).await?;
                ctx.show("AuditIndex", answer)
            }
            Self::Rebuild => {
                let request = v1::RebuildAuditIndexRequest { tenant_id };
                let answer = client.audit().rebuild_audit_index(request).await?;
                ctx.show("RebuildAuditIndexResponse", answer)
            }
        }
    }
}

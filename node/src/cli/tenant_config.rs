use aesp_proto::v1;
use clap::Subcommand;

use super::{context::Context, failure::Failure, page::Page};

const KEY_COLUMNS: &[&str] = &["key", "type", "default_value", "sensitive", "description"];
const HISTORY_COLUMNS: &[&str] = &["version", "value", "changed_at_ms", "changed_by"];

/// Of the tenant that --tenant names.
#[derive(Subcommand, Debug)]
pub(crate) enum TenantConfig {
    /// Show a value.
    Get { key: String },
    /// Change a value.
    Set {
        key: String,
        value: String,
        /// Only when this version is the stored one.
        #[arg(long, default_value_t = 0, hide_default_value = true)]
        expected_version: u32,
        /// Why, for the history.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// List the keys that there are.
    List,
    /// List what a key has been.
    History {
        key: String,
        #[command(flatten)]
        page: Page,
    },
    /// Set a key to what it was at a version.
    Rollback { key: String, version: u32 },
}

impl TenantConfig {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut configuration = ctx.client()?.configuration();
        let value = match self {
            Self::Get { key } => {
                configuration.get_config_value(v1::GetConfigValueRequest { tenant_id, key }).await?
            }
            Self::Set { key, value, expected_version, comment } => {
                let request = v1::SetConfigValueRequest { tenant_id, key, value, expected_version, comment };
                configuration.set_config_value(request).await?
            }
            Self::Rollback { key, version } => {
                configuration.rollback_config(v1::RollbackConfigRequest { tenant_id, key, version }).await?
            }
            Self::List => {
                let answer = configuration.list_config_keys(v1::ListConfigKeysRequest { tenant_id }).await?;
                return ctx.show_list("ListConfigKeysResponse", answer, "keys", KEY_COLUMNS);
            }
            Self::History { key, page } => {
                let request = v1::GetConfigHistoryRequest { tenant_id, key, page: page.into() };
                let answer = configuration.get_config_history(request).await?;
                return ctx.show_list("GetConfigHistoryResponse", answer, "versions", HISTORY_COLUMNS);
            }
        };
        ctx.show("ConfigValue", value)
    }
}

use std::path::PathBuf;

use aesp_bridge::{McpCommand, list_tools_json};
use aesp_proto::v1;
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER_PERMISSIVE;

use super::{context::Context, contract::ContractFile, failure::Failure, file, page::Page};

const COLUMNS: &[&str] =
    &["name", "contract_version", "approval_status", "effects", "risk_assessment", "offered_to", "origin"];

#[derive(Subcommand, Debug)]
pub(crate) enum Tool {
    /// List contracts.
    List(Page),
    /// Show one: the active version unless one is given.
    Show {
        name: String,
        #[arg(long = "contract", default_value = "")]
        version: String,
    },
    /// Store a draft. Nothing can be called by it.
    Create {
        /// The contract as JSON; `-` for standard input.
        #[arg(long, short)]
        file: PathBuf,
    },
    /// Make a draft the active version of its name.
    Activate {
        name: String,
        version: String,
        /// Only if the stored contract has this digest: what was reviewed is what is activated.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Take a version out of service; running calls are cancelled.
    Retire {
        name: String,
        version: String,
        #[arg(long)]
        reason: String,
    },
    /// Make drafts from what others declare.
    #[command(subcommand)]
    Import(Import),
}

#[derive(Subcommand, Debug)]
pub(crate) enum Import {
    /// From an ADM tool manifest.
    Adm {
        /// `-` for standard input.
        #[arg(long, short)]
        file: PathBuf,
        #[command(flatten)]
        drafts: Drafts,
    },
    /// From an MCP server's tools.
    Mcp {
        /// A tools/list result; `-` for standard input.
        #[arg(long, short, conflicts_with = "from_server", required_unless_present = "from_server")]
        file: Option<PathBuf>,
        /// Start the server after `--` and ask it.
        #[arg(long, requires = "command")]
        from_server: bool,
        /// Put before every tool's name, for example `git_`.
        #[arg(long, default_value = "")]
        prefix: String,
        #[command(flatten)]
        drafts: Drafts,
        #[arg(last = true)]
        command: Vec<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Drafts {
    /// The version that the drafts get.
    #[arg(long = "contract", default_value = "1.0.0")]
    version: String,
    /// A tenant that they are offered to; may be repeated.
    #[arg(long = "offer-to", value_name = "TENANT")]
    offered_to: Vec<String>,
}

impl Tool {
    pub(crate) async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut catalog = ctx.client()?.catalog();
        let contract = match self {
            Self::List(page) => {
                let request = v1::ListContractsRequest { tenant_id, page: page.into(), ..Default::default() };
                let answer = catalog.list_contracts(request).await?;
                return ctx.show_list("ListContractsResponse", answer, "contracts", COLUMNS);
            }
            Self::Import(import) => return import.run(ctx).await,
            Self::Show { name, version } => {
                catalog.get_contract(v1::GetContractRequest { tenant_id, name, version }).await?
            }
            Self::Create { file } => {
                let draft = Some(ContractFile::parse(&file::text(&file)?)?.into_draft());
                catalog.create_contract(v1::CreateContractRequest { tenant_id, draft }).await?
            }
            Self::Activate { name, version, digest } => {
                let digest = digest.unwrap_or_default();
                let expected_digest = HEXLOWER_PERMISSIVE.decode(digest.as_bytes()).map_err(|_| {
                    Failure::usage("--digest is not hexadecimal", "take it from aesp tool show")
                })?;
                let request = v1::ActivateContractRequest { tenant_id, name, version, expected_digest };
                catalog.activate_contract(request).await?
            }
            Self::Retire { name, version, reason } => {
                catalog
                    .retire_contract(v1::RetireContractRequest { tenant_id, name, version, reason })
                    .await?
            }
        };
        ctx.show("EnterpriseToolContract", contract)
    }
}

impl Import {
    async fn run(self, ctx: &Context) -> Result<(), Failure> {
        let tenant_id = ctx.tenant();
        let mut catalog = ctx.client()?.catalog();
        let answer = match self {
            Self::Adm { file, drafts: Drafts { version, offered_to } } => {
                let manifest_json = file::bytes(&file)?;
                let request = v1::ImportAdmRequest { tenant_id, manifest_json, version, offered_to };
                catalog.import_adm(request).await?
            }
            Self::Mcp {
                file, prefix: name_prefix, drafts: Drafts { version, offered_to }, command, ..
            } => {
                let tools_json = match file {
                    Some(file) => file::bytes(&file)?,
                    None => ask(command).await?,
                };
                let request =
                    v1::ImportMcpRequest { tenant_id, tools_json, version, offered_to, name_prefix };
                catalog.import_mcp(request).await?
            }
        };
        for refusal in &answer.get_ref().refused {
            ctx.console.note(&format!("refused: {:?}: {:?}", refusal.name, refusal.reason))?;
        }
        ctx.show_list("ImportResponse", answer, "drafts", COLUMNS)
    }
}

async fn ask(command: Vec<String>) -> Result<Vec<u8>, Failure> {
    let command = McpCommand::new(command).map_err(aesp_proto::Error::from)?;
    let tools = list_tools_json(&command).await.map_err(aesp_proto::Error::from)?;
    Ok(tools.to_string().into_bytes())
}

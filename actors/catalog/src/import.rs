//! What imports have in common. Imported contracts are drafts: an administrator reads and activates them.

use aesp_proto::v1;
use serde_json::Value;

use crate::{Contract, Error, document};

/// The longest document, and the most tools in it.
const MAX_IMPORT_BYTES: usize = 4 << 20;
pub(crate) const MAX_TOOLS: usize = 1000;

/// What an import becomes: drafts for the tools that can be described, and the reason for each of the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Import {
    /// The drafts; every one of them is a valid contract.
    pub drafts: Vec<v1::ContractDraft>,
    /// The tools that were refused.
    pub refused: Vec<v1::ImportRefusal>,
}

impl Import {
    /// Takes the tool in, or notes why not.
    pub(crate) fn add(&mut self, name: &str, draft: Result<v1::ContractDraft, String>) {
        let twice =
            self.drafts.iter().any(|other| draft.as_ref().is_ok_and(|draft| draft.name == other.name));
        let checked = draft.and_then(|draft| {
            if twice {
                return Err("another tool of the import has the same name".into());
            }
            let checked = Contract::from_draft(&draft, Default::default());
            checked.map(|_| draft).map_err(|error| error.to_string())
        });
        match checked {
            Ok(draft) => self.drafts.push(draft),
            Err(reason) => {
                let name = name.chars().take(64).collect();
                self.refused.push(v1::ImportRefusal { name, reason });
            }
        }
    }
}

pub(crate) fn parse(json: &[u8]) -> Result<Value, Error> {
    document::parse(json, MAX_IMPORT_BYTES).map_err(Error::InvalidImport)
}

/// Returns what an importer can't know, as cautious as it can be.
pub(crate) fn cautious(name: String, version: &str, description: &str) -> v1::ContractDraft {
    v1::ContractDraft {
        name,
        version: version.to_owned(),
        description: description.to_owned(),
        effects: v1::Effects::NonIdempotent.into(),
        risk: v1::Risk::High.into(),
        timeout_ms: 30_000,
        security_classification: "INTERNAL".into(),
        ..v1::ContractDraft::default()
    }
}

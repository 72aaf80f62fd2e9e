use aesp_sdk::v1::Effects;
use aesp_tests::{Contract, object};
use serde::Serialize;
use serde_json::json;

/// The tools of the workload, one for each kind of effects. Each takes `{"id": string}` and returns the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Tool {
    /// Only reads.
    Look,
    /// May run twice.
    Put,
    /// Must not run twice.
    Pay,
}

impl Tool {
    pub(crate) const ALL: [Self; 3] = [Self::Look, Self::Put, Self::Pay];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Put => "put",
            Self::Pay => "pay",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    fn effects(self) -> Effects {
        match self {
            Self::Look => Effects::ReadOnly,
            Self::Put => Effects::Idempotent,
            Self::Pay => Effects::NonIdempotent,
        }
    }

    pub(crate) fn contract(self) -> Contract {
        let argument = object(&json!({ "id": { "type": "string" } }));
        Contract::new(self.name()).takes(&argument).effects(self.effects()).timeout_ms(10_000)
    }
}

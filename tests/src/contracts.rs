use aesp_sdk::v1::{ContractDraft, Effects, Risk};
use serde_json::{Value, json};

/// A contract to be created and activated, with the fields that tests vary.
#[derive(Clone, Debug)]
pub struct Contract(pub ContractDraft);

impl Contract {
    /// Describes version 1.0.0 of the tool `name`: read-only, low risk, 30 s, any object in and out.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let any = json!({ "type": "object" });
        Self(ContractDraft {
            name: name.into(),
            version: "1.0.0".into(),
            description: format!("the tool {name}"),
            parameters_json: any.to_string().into(),
            return_type_json: any.to_string().into(),
            effects: Effects::ReadOnly.into(),
            risk: Risk::Low.into(),
            timeout_ms: 30_000,
            security_classification: "INTERNAL".into(),
            ..ContractDraft::default()
        })
    }

    /// Sets the schema of the arguments.
    #[must_use]
    pub fn takes(mut self, schema: &Value) -> Self {
        self.0.parameters_json = schema.to_string().into();
        self
    }

    /// Sets what may happen when it runs twice.
    #[must_use]
    pub fn effects(mut self, effects: Effects) -> Self {
        self.0.effects = effects.into();
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout_ms(mut self, limit: u32) -> Self {
        self.0.timeout_ms = limit;
        self
    }

    /// Makes it a streaming tool with chunks of this schema.
    #[must_use]
    pub fn streams(mut self, chunk: &Value) -> Self {
        self.0.supports_streaming = true;
        self.0.chunk_schema_json = chunk.to_string().into();
        self
    }
}

/// Returns the contract of `echo`, which takes `{"text": string}`.
#[must_use]
pub fn echo() -> Contract {
    Contract::new("echo").takes(&object(&json!({ "text": { "type": "string" } })))
}

/// Returns the schema of an object with exactly these properties.
#[must_use]
pub fn object(properties: &Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(|all| all.keys()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

//! Lists of tools of MCP servers. Source: <https://modelcontextprotocol.io/specification>, `tools/list`.

use aesp_proto::v1;
use serde_json::{Map, Value, json};

use crate::{
    Error,
    import::{Import, MAX_TOOLS, cautious, parse},
};

/// Reads the result of `tools/list` (JSON; the whole JSON-RPC answer will do). Every tool becomes a draft of `version` whose
/// name starts with `prefix`, or is refused with the reason.
///
/// The annotations are the server's own claims, which is one reason why these are drafts; where there are none the tool counts
/// as non-idempotent and of high risk. Results are what a bridge returns: `content`, and `structuredContent` by the
/// `outputSchema` if there is one.
///
/// # Errors
/// [`Error::InvalidImport`] if the document is not such a list.
pub fn import_mcp(json: &[u8], version: &str, prefix: &str) -> Result<Import, Error> {
    let list = parse(json)?;
    let list = list.get("result").unwrap_or(&list);
    let wrong = |what: &str| Error::InvalidImport(what.to_owned());
    let tools = list
        .get("tools")
        .unwrap_or(list)
        .as_array()
        .ok_or_else(|| wrong("a list of tools has an array of tools"))?;
    if tools.len() > MAX_TOOLS {
        return Err(wrong("more than 1000 tools"));
    }
    let mut import = Import::default();
    for tool in tools {
        let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
        import.add(name, draft(tool, version, prefix));
    }
    Ok(import)
}

fn draft(tool: &Value, version: &str, prefix: &str) -> Result<v1::ContractDraft, String> {
    let name = tool.get("name").and_then(Value::as_str).ok_or("a tool has a name")?;
    let description = tool.get("description").and_then(Value::as_str).unwrap_or_default();
    let parameters = tool.get("inputSchema").ok_or("a tool has an inputSchema")?;
    let (effects, risk) = claims(tool.get("annotations"));
    Ok(v1::ContractDraft {
        parameters_json: dialect(parameters.clone())?.to_string().into_bytes(),
        return_type_json: result(tool.get("outputSchema"))?.to_string().into_bytes(),
        effects: effects.into(),
        risk: risk.into(),
        tags: vec!["mcp".into()],
        ..cautious(format!("{prefix}{name}"), version, description)
    })
}

fn claims(annotations: Option<&Value>) -> (v1::Effects, v1::Risk) {
    let claims = |hint: &str| annotations.and_then(|all| all.get(hint)).and_then(Value::as_bool);
    if claims("readOnlyHint") == Some(true) {
        return (v1::Effects::ReadOnly, v1::Risk::Low);
    }
    let risk = if claims("destructiveHint") == Some(false) { v1::Risk::Medium } else { v1::Risk::High };
    match claims("idempotentHint") {
        Some(true) => (v1::Effects::Idempotent, risk),
        _ => (v1::Effects::NonIdempotent, risk),
    }
}

/// Drops the name of an older dialect, which servers often put in front of what is the same in 2020-12. Keywords that are not
/// the same are refused when the draft is checked.
fn dialect(mut schema: Value) -> Result<Value, String> {
    let fields = schema.as_object_mut().ok_or("a schema is an object")?;
    if fields
        .get("$schema")
        .and_then(Value::as_str)
        .is_some_and(|text| text.contains("json-schema.org/draft-0"))
    {
        fields.remove("$schema");
    }
    Ok(schema)
}

/// Returns the schema of what a bridge returns for a call that succeeded.
fn result(output: Option<&Value>) -> Result<Value, String> {
    let block = json!({"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}});
    let mut properties = Map::from_iter([("content".to_owned(), json!({"type": "array", "items": block}))]);
    let mut required = vec!["content"];
    match output {
        Some(schema) => {
            let mut schema = dialect(schema.clone())?;
            rebase(&mut schema);
            properties.insert("structuredContent".into(), schema);
            required.push("structuredContent");
        }
        None => drop(properties.insert("structuredContent".into(), json!({"type": "object"}))),
    }
    Ok(
        json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false}),
    )
}

/// Lets references within the schema find their targets at its new place.
fn rebase(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for (keyword, value) in fields.iter_mut() {
                match value {
                    Value::String(reference) if keyword == "$ref" => {
                        if let Some(pointer) = reference.strip_prefix('#') {
                            *reference = format!("#/properties/structuredContent{pointer}");
                        }
                    }
                    // Data, not schemas.
                    _ if ["const", "enum", "default", "examples"].contains(&keyword.as_str()) => {}
                    _ => rebase(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rebase),
        _ => {}
    }
}

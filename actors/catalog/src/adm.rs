//! ADM tool manifests. Their parameters are OpenAPI-style; what has no meaning there is refused rather than dropped.

use aesp_proto::v1;
use serde_json::{Map, Value, json};

use crate::{
    Error,
    import::{Import, MAX_TOOLS, cautious, parse},
};

/// Reads an ADM `ToolManifest` (JSON). Every declaration becomes a draft of `version`, or is refused with the reason.
///
/// # Errors
/// [`Error::InvalidImport`] if the document is not a manifest.
pub fn import_adm(json: &[u8], version: &str) -> Result<Import, Error> {
    let manifest = parse(json)?;
    let wrong = |what: &str| Error::InvalidImport(what.to_owned());
    let tools = manifest
        .get("tools")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("a manifest has an array of tools"))?;
    let mut import = Import::default();
    let mut seen = 0;
    for tool in tools {
        let declarations = tool.get("function_declarations").and_then(Value::as_array);
        for declaration in
            declarations.ok_or_else(|| wrong("every tool has an array of function_declarations"))?
        {
            seen += 1;
            if seen > MAX_TOOLS {
                return Err(wrong("more than 1000 tools"));
            }
            let name = declaration.get("name").and_then(Value::as_str).unwrap_or_default();
            import.add(name, draft(declaration, version));
        }
    }
    Ok(import)
}

fn draft(declaration: &Value, version: &str) -> Result<v1::ContractDraft, String> {
    let fields = declaration.as_object().ok_or("a function declaration is an object")?;
    if let Some(unknown) =
        fields.keys().find(|key| !["name", "description", "parameters"].contains(&key.as_str()))
    {
        return Err(format!("{unknown:?} is not part of a function declaration"));
    }
    let text = |key: &str| match fields.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("{key} is a text")),
        None => Ok(String::new()),
    };
    let parameters = match fields.get("parameters") {
        Some(schema) => convert(schema)?,
        None => json!({"type": "object", "additionalProperties": false}),
    };
    let draft = cautious(text("name")?, version, &text("description")?);
    Ok(v1::ContractDraft { parameters_json: parameters.to_string().into_bytes(), ..draft })
}

/// Converts an ADM schema to JSON Schema 2020-12. Nulls do not exist in ADM: an absent field is left out.
fn convert(schema: &Value) -> Result<Value, String> {
    let fields = schema.as_object().ok_or("a schema is an object")?;
    let mut out = Map::new();
    for (keyword, value) in fields {
        let converted = match keyword.as_str() {
            "type" => Value::String(type_name(value)?.to_owned()),
            "properties" => {
                let members = value.as_object().ok_or("properties is an object")?.iter();
                Value::Object(
                    members
                        .map(|(name, schema)| Ok((name.clone(), convert(schema)?)))
                        .collect::<Result<_, String>>()?,
                )
            }
            "items" => convert(value)?,
            "nullable" if *value == Value::Bool(false) => continue,
            "nullable" => return Err("nullable: ADM has no nulls".into()),
            "description" | "title" | "format" | "enum" | "default" | "example" | "required" | "pattern"
            | "minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems"
            | "minProperties" | "maxProperties" => value.clone(),
            other => return Err(format!("{other:?} is not part of an ADM schema")),
        };
        let keyword = if keyword == "example" { "examples" } else { keyword };
        let converted = if keyword == "examples" { json!([converted]) } else { converted };
        out.insert(keyword.to_owned(), converted);
    }
    match out.get("type").and_then(Value::as_str) {
        None => return Err("a schema has a type".into()),
        Some("object") if out.contains_key("properties") => {
            out.insert("additionalProperties".into(), Value::Bool(false));
        }
        Some(_) => {}
    }
    Ok(Value::Object(out))
}

fn type_name(value: &Value) -> Result<&'static str, String> {
    let known = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"];
    let ours = ["string", "number", "integer", "boolean", "array", "object"];
    let found = known.iter().position(|name| value.as_str() == Some(name));
    found.map(|at| ours[at]).ok_or_else(|| format!("a type is one of {}", known.join(", ")))
}

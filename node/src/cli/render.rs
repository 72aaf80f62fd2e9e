use std::sync::OnceLock;

use data_encoding::{BASE64, HEXLOWER};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

use super::failure::Failure;

/// Returns a message of `aesp.v1` as JSON with the names of its fields; JSON inside bytes as JSON, digests as hexadecimal.
pub(crate) fn to_json<M: Message>(name: &str, message: &M) -> Result<Value, Failure> {
    let unknown = || Failure::local(format!("the answer {name} can't be shown"), "report this");
    let descriptor = pool().get_message_by_name(&format!("aesp.v1.{name}")).ok_or_else(unknown)?;
    let dynamic =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|_| unknown())?;
    let options = SerializeOptions::new()
        .skip_default_fields(false)
        .stringify_64_bit_integers(false)
        .use_proto_field_name(true);
    let mut value =
        dynamic.serialize_with_options(serde_json::value::Serializer, &options).map_err(|_| unknown())?;
    open_bytes(&mut value);
    Ok(value)
}

/// Reads a message of `aesp.v1` out of what [`to_json`] made of it; for messages without JSON or digests inside.
pub(crate) fn from_json<M: Message + Default>(name: &str, text: &str) -> Result<M, Failure> {
    let bad = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("the file holds no {name}: {why}"), "name what --output json showed")
    };
    let descriptor = pool().get_message_by_name(&format!("aesp.v1.{name}")).ok_or_else(|| bad(&"unknown"))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor, &mut reader).map_err(|error| bad(&error))?;
    reader.end().map_err(|error| bad(&error))?;
    M::decode(message.encode_to_vec().as_slice()).map_err(|error| bad(&error))
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(aesp_proto::descriptor_set()).expect("descriptors were made by the build")
    })
}

fn open_bytes(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(open_bytes),
        Value::Object(fields) => {
            for (name, field) in fields {
                let opened = match field {
                    Value::String(text) => opened(name, text),
                    _ => None,
                };
                open_bytes(field);
                if let Some(opened) = opened {
                    *field = opened;
                }
            }
        }
        _ => {}
    }
}

fn opened(name: &str, text: &str) -> Option<Value> {
    let bytes = || BASE64.decode(text.as_bytes()).ok();
    match name {
        "digest" => Some(HEXLOWER.encode(&bytes()?).into()),
        // A string already, in RFC 7517's own form.
        "jwks_json" => serde_json::from_str(text).ok(),
        "parameters" | "return_type" | "chunk_schema" => schema(&bytes()?),
        _ if name.ends_with("_json") => schema(&bytes()?),
        _ => None,
    }
}

fn schema(bytes: &[u8]) -> Option<Value> {
    if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(bytes).ok() }
}

#[cfg(test)]
mod tests {
    use aesp_proto::v1;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_contract_is_shown_as_people_wrote_it() {
        let contract = v1::EnterpriseToolContract {
            name: "git_log".into(),
            parameters: br#"{"type":"object"}"#.to_vec(),
            digest: vec![0xab, 0xcd],
            risk_assessment: v1::Risk::High.into(),
            approved_at: 1_700_000_000_000,
            ..Default::default()
        };
        let shown = to_json("EnterpriseToolContract", &contract).unwrap();
        assert_eq!(shown["parameters"], json!({"type": "object"}));
        assert_eq!(shown["return_type"], Value::Null);
        assert_eq!(shown["digest"], "abcd");
        assert_eq!(shown["risk_assessment"], "HIGH");
        assert_eq!(shown["approved_at"], json!(1_700_000_000_000_i64));
    }
}

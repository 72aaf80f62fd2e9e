//! JSON of strangers, read within limits: what the rest of the Host holds has no key twice, no number that changed its value
//! on the way in, and a bounded depth.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
pub(crate) const MAX_DEPTH: usize = 64;

/// Parses a document of at most `max_bytes`. The error says what is wrong without quoting the document.
pub(crate) fn parse(bytes: &[u8], max_bytes: usize) -> Result<Value, String> {
    if bytes.len() > max_bytes {
        return Err(format!("longer than {max_bytes} bytes"));
    }
    check_integers(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).map_err(|error| describe(&error))?;
    reader.end().map_err(|error| describe(&error))?;
    Ok(value)
}

/// Says where and of what sort; serde's own texts may quote the document.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let known = [DUPLICATE, TOO_DEEP, "number out of range", "recursion limit exceeded", "invalid unicode"];
    let what = known
        .into_iter()
        .find(|what| text.starts_with(what))
        .unwrap_or_else(|| if error.is_eof() { "it ends too early" } else { "not JSON in UTF-8" });
    format!("{what} (line {}, column {})", error.line(), error.column())
}

const DUPLICATE: &str = "a key appears twice in an object";
const TOO_DEEP: &str = "nested deeper than 64 levels";

/// Refuses integers beyond 64 bits, which would silently become the nearest float.
fn check_integers(bytes: &[u8]) -> Result<(), String> {
    let mut position = 0;
    while position < bytes.len() {
        match bytes[position] {
            b'"' => position = end_of_string(bytes, position),
            b'-' | b'0'..=b'9' => {
                let start = position;
                while position < bytes.len()
                    && matches!(bytes[position], b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
                {
                    position += 1;
                }
                let literal = &bytes[start..position];
                let integer = literal.iter().all(|b| matches!(b, b'0'..=b'9' | b'-'));
                let fits = || str::from_utf8(literal).is_ok_and(|text| text.parse::<i64>().is_ok());
                if integer && literal.len() > 18 && !fits() {
                    return Err(format!("an integer beyond 64 bits (byte {start})"));
                }
            }
            _ => position += 1,
        }
    }
    Ok(())
}

/// Returns the position behind the string that starts at `position`.
fn end_of_string(bytes: &[u8], mut position: usize) -> usize {
    position += 1;
    while position < bytes.len() {
        match bytes[position] {
            b'"' => return position + 1,
            b'\\' => position += 2,
            _ => position += 1,
        }
    }
    position
}

#[derive(Clone)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(TOO_DEEP)) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number).map(Value::from).map_err(|_| E::custom("number out of range"))
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(inner.clone())? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut out = Map::new();
        while let Some(key) = members.next_key::<Key>()? {
            let value = members.next_value_seed(inner.clone())?;
            if out.insert(key.0, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(out))
    }
}

#[derive(Deserialize)]
struct Key(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes(), 1 << 20).expect_err(text)
    }

    #[test]
    fn what_would_be_read_differently_elsewhere_is_refused() {
        assert!(refused(r#"{"a":1,"a":2}"#).contains(DUPLICATE));
        assert!(refused(r#"{"a":1,"\u0061":2}"#).contains(DUPLICATE));
        assert!(refused("9223372036854775808").contains("64 bits"));
        assert!(refused("[-9223372036854775809]").contains("64 bits"));
        assert!(refused("123456789012345678901234567890").contains("64 bits"));
        assert!(refused("1e999").contains("number out of range"));
        assert!(refused(r#""\ud800""#).contains("line 1"));
        assert!(refused("1 2").contains("line 1"));
        assert!(parse(b"\"\xff\"", 100).is_err());
        for text in ["", "nul", "{", "[1,]", "01", "NaN", "'a'", "{a:1}", "\u{feff}1", "\"", "\"\\"] {
            refused(text);
        }
        assert_eq!(parse(b"9223372036854775807", 100), Ok(i64::MAX.into()));
        assert_eq!(parse(br#""99999999999999999999""#, 100), Ok("99999999999999999999".into()));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(MAX_DEPTH).as_bytes(), 1000).is_ok());
        assert!(refused(&nested(MAX_DEPTH + 1)).contains(TOO_DEEP));
        assert!(refused(&"[".repeat(500_000)).contains(TOO_DEEP));
        assert!(refused(&"{\"a\":".repeat(100_000)).contains(TOO_DEEP));
        assert!(parse(b"[1]", 2).is_err());
    }

    proptest! {
        #[test]
        fn errors_never_quote_the_document(junk in ".{0,30}") {
            let text = format!("{{\"password\": \"s3cr3t\", {junk}");
            if let Err(error) = parse(text.as_bytes(), 1000) {
                prop_assert!(!error.contains("s3cr3t"));
            }
        }

        #[test]
        fn agrees_with_serde_where_it_accepts(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = parse(&bytes, 1000) {
                prop_assert_eq!(Some(value), serde_json::from_slice::<Value>(&bytes).ok());
            }
        }
    }
}

//! Schemas of strangers. What is accepted costs no more than its size says, whatever the document: nothing is fetched, nothing
//! recurs, expansion is bounded, and patterns match in linear time.

use std::collections::HashMap;

use jsonschema::{Draft, PatternOptions, Validator};
use regex_syntax::hir::{Hir, HirKind};
use serde_json::{Map, Value};

/// The longest schema, and the most subschemas that it may have once every reference is written out.
pub(crate) const MAX_SCHEMA_BYTES: usize = 256 * 1024;
const MAX_EXPANDED: u64 = 5_000;
/// How deep subschemas may lie once every reference is written out: the validator recurses with them.
const MAX_EXPANDED_DEPTH: u32 = 64;
const MAX_PATTERN_BYTES: usize = 1000;
const MAX_COMPILED_PATTERN_BYTES: usize = 1 << 20;
const MAX_SCHEMA_DEPTH: usize = 48;

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Keywords whose value is a schema, an object of schemas, an array of schemas, or refused.
const ONE: [&str; 11] = [
    "not",
    "if",
    "then",
    "else",
    "items",
    "contains",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
const LISTED: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const REFUSED: [&str; 6] =
    ["$id", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$anchor", "$vocabulary"];

/// Checks that the schema is harmless.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    let mut found = Found::default();
    if let Some(dialect) = schema.get("$schema")
        && dialect.as_str().map(|text| text.trim_end_matches('#')) != Some(DIALECT)
    {
        return Err(format!("$schema must be {DIALECT}"));
    }
    walk(schema, String::new(), 0, &mut found)?;
    let mut sizes = HashMap::new();
    let (total, height) = expanded("", 0, &found, &mut sizes)?;
    if height > MAX_EXPANDED_DEPTH {
        return Err(too_deep());
    }
    if total > MAX_EXPANDED {
        return Err(format!(
            "it has more than {MAX_EXPANDED} subschemas once its references are written out"
        ));
    }
    Ok(())
}

/// Compiles a schema that [`check`] accepts.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    let patterns = PatternOptions::regex()
        .size_limit(MAX_COMPILED_PATTERN_BYTES)
        .dfa_size_limit(MAX_COMPILED_PATTERN_BYTES);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(patterns)
        .should_validate_formats(false)
        .offline()
        .build(schema)
        .map_err(|error| {
            let place = error.instance_path().to_string();
            let text: String = error.to_string().chars().take(300).collect();
            format!("at {}: {text}", if place.is_empty() { "/" } else { &place })
        })
}

/// The subschemas by their JSON pointers, each with those directly below it and the one that it refers to.
#[derive(Default)]
struct Found(HashMap<String, Vec<String>>);

fn walk(schema: &Value, at: String, depth: usize, found: &mut Found) -> Result<(), String> {
    if depth > MAX_SCHEMA_DEPTH {
        return Err(format!("nested deeper than {MAX_SCHEMA_DEPTH} subschemas"));
    }
    let mut below = Vec::new();
    match schema {
        Value::Bool(_) => {}
        Value::Object(keywords) => {
            refuse(keywords, &at, depth)?;
            for (child, place) in children(keywords, &at)? {
                below.push(place.clone());
                walk(child, place, depth + 1, found)?;
            }
            if let Some(reference) = keywords.get("$ref") {
                below.push(target(reference, &at)?);
            }
        }
        _ => return Err(format!("at {}: a schema is an object, true or false", name(&at))),
    }
    found.0.insert(at, below);
    Ok(())
}

fn refuse(keywords: &Map<String, Value>, at: &str, depth: usize) -> Result<(), String> {
    for keyword in REFUSED {
        if keywords.contains_key(keyword) {
            return Err(format!("at {}: {keyword} is not supported; refer to #/$defs instead", name(at)));
        }
    }
    if depth > 0 && keywords.contains_key("$schema") {
        return Err(format!("at {}: $schema belongs at the top", name(at)));
    }
    if let Some(pattern) = keywords.get("pattern").and_then(Value::as_str) {
        check_pattern(pattern, at)?;
    }
    if let Some(patterns) = keywords.get("patternProperties").and_then(Value::as_object) {
        patterns.keys().try_for_each(|pattern| check_pattern(pattern, at))?;
    }
    Ok(())
}

fn children<'a>(keywords: &'a Map<String, Value>, at: &str) -> Result<Vec<(&'a Value, String)>, String> {
    let mut out = Vec::new();
    for (keyword, value) in keywords {
        let place = || format!("{at}/{}", escape(keyword));
        let wrong = |what| Err(format!("at {}: {keyword} is {what}", name(at)));
        match keyword.as_str() {
            one if ONE.contains(&one) => out.push((value, place())),
            named if NAMED.contains(&named) => match value {
                Value::Object(members) => {
                    out.extend(
                        members.iter().map(|(key, schema)| (schema, format!("{}/{}", place(), escape(key)))),
                    );
                }
                _ => return wrong("an object of schemas"),
            },
            listed if LISTED.contains(&listed) => match value {
                Value::Array(items) => {
                    out.extend(
                        items.iter().enumerate().map(|(n, schema)| (schema, format!("{}/{n}", place()))),
                    );
                }
                _ => return wrong("an array of schemas"),
            },
            // Draft 7's other meaning of a keyword would be ignored, and what it should constrain with it.
            "dependencies" | "additionalItems" => return wrong("not part of JSON Schema 2020-12"),
            _ => {}
        }
    }
    Ok(out)
}

fn target(reference: &Value, at: &str) -> Result<String, String> {
    let refused = |why: &str| Err(format!("at {}: $ref {why}", name(at)));
    match reference.as_str().and_then(|text| text.strip_prefix('#')) {
        Some(pointer) if pointer.is_empty() || pointer.starts_with('/') => {
            if pointer.contains('%') {
                return refused("may not use percent encoding");
            }
            Ok(pointer.to_owned())
        }
        _ => refused(
            "may only be a JSON pointer into the schema itself, such as #/$defs/name; nothing is fetched",
        ),
    }
}

/// Returns how many subschemas there are from `at` down once references are written out, and how deep they lie; a reference
/// that leads back to where it stands has no end, and is refused.
fn expanded(at: &str, depth: u32, found: &Found, sizes: &mut Sizes) -> Result<(u64, u32), String> {
    match sizes.get(at) {
        Some(Some(size)) => return Ok(*size),
        Some(None) => {
            let what = "leads back to itself; recursion is not supported";
            return Err(format!("the reference to {} {what}", name(at)));
        }
        None if depth > MAX_EXPANDED_DEPTH => return Err(too_deep()),
        None => {}
    }
    let below = found.0.get(at).ok_or_else(|| format!("the reference to {} leads to no schema", name(at)))?;
    sizes.insert(at.to_owned(), None);
    let (mut total, mut height): (u64, u32) = (1, 0);
    for next in below {
        let (more, deeper) = expanded(next, depth + 1, found, sizes)?;
        total = total.saturating_add(more);
        height = height.max(deeper + 1);
    }
    sizes.insert(at.to_owned(), Some((total, height)));
    Ok((total, height))
}

/// Size and height by JSON pointer; nothing yet where the count is under way.
type Sizes = HashMap<String, Option<(u64, u32)>>;

fn too_deep() -> String {
    format!("it has subschemas deeper than {MAX_EXPANDED_DEPTH} levels once its references are written out")
}

/// Refuses patterns that cost more than linear time somewhere. Ours is an engine without backtracking, but the schema is also
/// shown to agents and Runtimes, whose engines may have it.
fn check_pattern(pattern: &str, at: &str) -> Result<(), String> {
    let refused = |why: &str| Err(format!("at {}: the pattern {why}", name(at)));
    if pattern.len() > MAX_PATTERN_BYTES {
        return refused("is longer than 1000 bytes");
    }
    // What this parser does not know, ECMA escapes for example, is left to the compiler of the validator.
    match regex_syntax::parse(pattern) {
        Ok(parsed) if explosive(&parsed) => {
            refused("repeats a repetition, as in (a+)+, which backtracking engines never finish")
        }
        _ => Ok(()),
    }
}

fn explosive(pattern: &Hir) -> bool {
    match pattern.kind() {
        HirKind::Repetition(outer) => {
            (outer.max.is_none() && ends_in_repetition(&outer.sub)) || explosive(&outer.sub)
        }
        HirKind::Capture(group) => explosive(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(explosive),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

/// Tells whether a whole match can be one unbounded repetition, so that repeating it is ambiguous.
fn ends_in_repetition(pattern: &Hir) -> bool {
    match pattern.kind() {
        HirKind::Repetition(inner) => inner.max.is_none() || ends_in_repetition(&inner.sub),
        HirKind::Capture(group) => ends_in_repetition(&group.sub),
        HirKind::Alternation(parts) => parts.iter().any(ends_in_repetition),
        HirKind::Concat(parts) => {
            let repeats = parts.iter().any(ends_in_repetition);
            repeats
                && parts
                    .iter()
                    .all(|part| part.properties().minimum_len() == Some(0) || ends_in_repetition(part))
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => false,
    }
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn name(pointer: &str) -> String {
    let text: String = pointer.chars().take(200).collect();
    format!("#{text}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn accepted(schema: Value) {
        check(&schema)
            .and_then(|()| compile(&schema).map(drop))
            .unwrap_or_else(|error| panic!("{schema}: {error}"));
    }

    fn refused(schema: Value, why: &str) {
        let error = check(&schema).and_then(|()| compile(&schema).map(drop)).expect_err(&schema.to_string());
        assert!(error.contains(why), "{schema}: {error}");
    }

    #[test]
    fn honest_schemas_are_accepted() {
        accepted(json!(true));
        accepted(json!({"$schema": DIALECT, "type": "object", "properties": {
            "$ref": {"type": "string"}, "$id": {"$ref": "#/$defs/a~1b"}, "slug": {"pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"},
            "mail": {"type": "string", "format": "email", "pattern": "^\\S+@\\S+$"},
        }, "$defs": {"a/b": {"const": {"$ref": "http://data.example"}}}}));
    }

    #[test]
    fn nothing_is_fetched() {
        for reference in [
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "other.json",
            "//host/x",
            "#anchor",
            "#/%24defs/a",
        ] {
            refused(json!({"properties": {"a": {"$ref": reference}}}), "$ref");
        }
        refused(json!({"$id": "http://example.org/", "$ref": "x"}), "$id");
        refused(json!({"items": {"$id": "http://example.org/"}}), "$id");
        refused(json!({"$ref": 7}), "$ref");
        refused(json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "$schema");
        refused(json!({"$schema": "http://evil.example/meta"}), "$schema");
        refused(json!({"items": {"$schema": DIALECT}}), "$schema");
    }

    #[test]
    fn recursion_is_refused() {
        refused(json!({"$ref": "#"}), "recursion");
        refused(json!({"properties": {"child": {"$ref": "#"}}}), "recursion");
        refused(
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"items": {"$ref": "#/$defs/a"}}}}),
            "recursion",
        );
        refused(json!({"$dynamicRef": "#x"}), "$dynamicRef");
        refused(json!({"$ref": "#/$defs/nowhere"}), "no schema");
        refused(json!({"$ref": "#/default", "default": {"type": "string"}}), "no schema");
    }

    #[test]
    fn expansion_is_bounded() {
        let mut definitions = Map::new();
        for level in 0..30 {
            let next = format!("#/$defs/d{}", level + 1);
            definitions.insert(format!("d{level}"), json!({"anyOf": [{"$ref": next}, {"$ref": next}]}));
        }
        definitions.insert("d30".into(), json!({"type": "string"}));
        refused(json!({"$ref": "#/$defs/d0", "$defs": definitions}), "written out");
    }

    /// On a test's stack of 2 MiB, as on a worker of the runtime.
    #[test]
    fn depth_is_bounded_through_references() {
        let chain = |links: usize, keyword: &str| {
            let link = |level: usize| json!({keyword: {"$ref": format!("#/$defs/d{}", level + 1)}});
            let mut definitions: Map<_, _> =
                (0..links).map(|level| (format!("d{level}"), link(level))).collect();
            definitions.insert(format!("d{links}"), json!({"type": "string"}));
            json!({"$ref": "#/$defs/d0", "$defs": definitions})
        };
        for keyword in ["not", "items", "contains", "additionalProperties", "if"] {
            for links in [100, 1_000, 3_000] {
                refused(chain(links, keyword), "levels");
            }
            let deepest = chain(31, keyword);
            accepted(deepest.clone());
            let mut document = json!("x");
            for _ in 0..31 {
                document = if keyword == "additionalProperties" {
                    json!({"a": document})
                } else {
                    json!([document])
                };
            }
            let validator = compile(&deepest).expect("accepted");
            let verdict = validator.iter_errors(&document).next().is_none();
            assert_eq!(verdict, validator.is_valid(&document));
        }
    }

    #[test]
    fn patterns_are_linear_everywhere() {
        for pattern in ["^(a+)+$", "(a*)*b", "(a|b+)*c", "((a+)b?)+", "([a-z]+)*@", "(?:x+x*)+y"] {
            refused(json!({"pattern": pattern}), "repeats a repetition");
            refused(json!({"patternProperties": {pattern: true}}), "repeats a repetition");
        }
        refused(json!({"pattern": "(a)\\1"}), "at");
        refused(json!({"pattern": "(?=a)b"}), "at");
        refused(json!({"pattern": "(((a{1,500}){1,500}){1,500})"}), "at");
        refused(json!({"pattern": "("}), "at");
        refused(json!({"pattern": "a".repeat(1001)}), "1000 bytes");
        for pattern in ["^\\d{3}-\\d+$", "^[\\w.+-]+@[\\w-]+\\.[a-z]{2,}$", "^(v\\d+\\.)+x$", "^\\/path$"] {
            accepted(json!({"pattern": pattern}));
        }
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        for schema in [
            json!([]),
            json!("x"),
            json!(1),
            json!(null),
            json!({"type": "text"}),
            json!({"properties": []}),
            json!({"minimum": "1"}),
            json!({"required": "a"}),
            json!({"items": [true]}),
            json!({"allOf": {}}),
            json!({"type": ["string", "string"]}),
            json!({"dependencies": {}}),
        ] {
            refused(schema, "at");
        }
    }
}

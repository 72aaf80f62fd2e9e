use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;

use crate::{Violation, error::MAX_VIOLATIONS};

/// Returns the first violations of an invalid document. What they say comes from the schema, never from the document, but for
/// the keys in the pointers.
pub(crate) fn violations(validator: &Validator, value: &Value) -> Vec<Violation> {
    let errors = validator.iter_errors(value).take(MAX_VIOLATIONS);
    errors
        .map(|error| Violation { pointer: short(error.instance_path().as_str()), expected: expected(&error) })
        .collect()
}

fn expected(error: &ValidationError<'_>) -> String {
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(kind) } => format!("a value of type {kind}"),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let names: Vec<_> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("a value of type {}", names.join(" or "))
        }
        Kind::Required { property } => format!("the property {}", short(&property.to_string())),
        Kind::AdditionalProperties { .. } | Kind::UnevaluatedProperties { .. } => {
            "no properties but those declared".into()
        }
        Kind::AdditionalItems { .. } | Kind::UnevaluatedItems { .. } => "no items but those declared".into(),
        Kind::Enum { options } => format!("one of {}", short(&options.to_string())),
        Kind::Constant { expected_value } => format!("the value {}", short(&expected_value.to_string())),
        Kind::Minimum { limit } => format!("at least {limit}"),
        Kind::Maximum { limit } => format!("at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("at least {limit} characters"),
        Kind::MaxLength { limit } => format!("at most {limit} characters"),
        Kind::MinItems { limit } => format!("at least {limit} items"),
        Kind::MaxItems { limit } => format!("at most {limit} items"),
        Kind::MinProperties { limit } => format!("at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("at most {limit} properties"),
        Kind::Pattern { pattern } => format!("a text that matches {}", short(pattern)),
        Kind::UniqueItems => "items that all differ".into(),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => {
            "a value that one of the alternatives accepts".into()
        }
        Kind::OneOfMultipleValid { .. } => "a value that only one of the alternatives accepts".into(),
        Kind::Not { .. } => "a value that the excluded schema does not accept".into(),
        Kind::FalseSchema => "nothing".into(),
        Kind::Contains => "an array that contains an item as declared".into(),
        Kind::PropertyNames { .. } => "property names as declared".into(),
        other => format!("what {} asks for", other.keyword()),
    }
}

fn short(text: &str) -> String {
    const MOST: usize = 200;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain("…".chars()).collect()
}

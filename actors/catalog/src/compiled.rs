use std::{collections::BTreeSet, sync::Arc};

use aesp_policy::{PolicyArguments, PolicyValue, Resource};
use aesp_proto::TenantId;
use jsonschema::Validator;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::{
    CedarType, Contract, Digest, Error, document, rows::StoredContract, schema, violation::violations,
};

/// The longest arguments and parts of a stream, and the longest result.
pub const MAX_ARGUMENTS_BYTES: usize = 1 << 20;
/// The longest result.
pub const MAX_RESULT_BYTES: usize = 4 << 20;

/// A contract with its schemas compiled.
#[derive(Debug)]
pub struct Compiled {
    contract: Contract,
    /// The contract's version as text.
    version: String,
    arguments: Validator,
    result: Validator,
    chunk: Option<Validator>,
}

/// Compiles contracts, each content once: validators are kept by digest.
#[derive(Debug)]
pub struct Compiler {
    known: Cache<(Digest, bool), Arc<Compiled>>,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// Creates a compiler that keeps the validators of about 10,000 contracts.
    #[must_use]
    pub fn new() -> Self {
        Self { known: Cache::new(10_000) }
    }

    /// Returns the compiled contract.
    ///
    /// # Errors
    /// [`Error::InvalidSchema`] if this build does not accept a schema, though another did.
    pub fn compile(&self, contract: &Contract) -> Result<Arc<Compiled>, Error> {
        let key = (contract.digest(), contract.is_development());
        self.known.get_or_insert_with(&key, || Compiled::new(contract.clone()).map(Arc::new))
    }

    /// Returns the compiled contract of a row, whose digest stands beside it: one that is known is not even read.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub(crate) fn stored(&self, row: &StoredContract) -> Result<Arc<Compiled>, Error> {
        self.known.get_or_insert_with(&(row.digest, false), || Compiled::new(row.contract()).map(Arc::new))
    }
}

impl Compiled {
    fn new(contract: Contract) -> Result<Self, Error> {
        let compile = |which, schema: &Value| {
            schema::check(schema)
                .and_then(|()| schema::compile(schema))
                .map_err(|reason| Error::InvalidSchema { which, reason })
        };
        Ok(Self {
            arguments: compile("parameters", contract.parameters())?,
            result: compile("result", contract.result())?,
            chunk: contract.chunk().map(|chunk| compile("chunk", chunk)).transpose()?,
            version: contract.version().to_string(),
            contract,
        })
    }

    /// Returns the contract.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Tells whether a Runtime registered it itself, for one session.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.contract.is_development()
    }

    /// Returns what policies see of the tool when it is called in `tenant`.
    #[must_use]
    pub fn resource(&self, tenant: TenantId) -> Resource<'_> {
        let contract = &self.contract;
        Resource::Tool {
            tenant,
            name: contract.name(),
            version: &self.version,
            effects: contract.effects().as_str(),
            risk: contract.risk().as_str(),
            classification: contract.classification().as_str(),
            tags: contract.tags(),
            required_roles: contract.required_roles(),
            development: contract.is_development(),
        }
    }

    /// Checks the arguments of a call. No bytes at all are the empty object.
    ///
    /// # Errors
    /// [`Error::Malformed`] or [`Error::Violations`], neither of which quotes the arguments.
    pub fn check_arguments(&self, json: &[u8]) -> Result<Value, Error> {
        let value = if json.is_empty() {
            Value::Object(Map::new())
        } else {
            read("arguments", json, MAX_ARGUMENTS_BYTES)?
        };
        check("arguments", &self.arguments, value)
    }

    /// Checks a result.
    ///
    /// # Errors
    /// As [`check_arguments`](Self::check_arguments).
    pub fn check_result(&self, json: &[u8]) -> Result<Value, Error> {
        check("result", &self.result, read("result", json, MAX_RESULT_BYTES)?)
    }

    /// Checks a part of a streamed result.
    ///
    /// # Errors
    /// As [`check_arguments`](Self::check_arguments); [`Error::Malformed`] if the contract does not stream.
    pub fn check_chunk(&self, json: &[u8]) -> Result<Value, Error> {
        let Some(chunk) = &self.chunk else {
            return Err(Error::Malformed { what: "chunk", reason: "the contract does not stream".into() });
        };
        check("chunk", chunk, read("chunk", json, MAX_ARGUMENTS_BYTES)?)
    }

    /// Returns the arguments that policies may read, of those that are there.
    ///
    /// # Errors
    /// [`Error::NotVisible`] if one can't be given with its declared type: policies that would not see it are not asked.
    pub fn policy_arguments(&self, arguments: &Value) -> Result<PolicyArguments, Error> {
        let mut out = PolicyArguments::new();
        for visible in self.contract.policy_visible() {
            let Some(value) = arguments.pointer(&visible.path) else { continue };
            let typed =
                typed(value, visible.cedar_type).ok_or_else(|| Error::NotVisible(visible.path.clone()))?;
            out.insert(visible.path.clone(), typed);
        }
        Ok(out)
    }
}

fn read(what: &'static str, json: &[u8], limit: usize) -> Result<Value, Error> {
    document::parse(json, limit).map_err(|reason| Error::Malformed { what, reason })
}

fn check(what: &'static str, validator: &Validator, value: Value) -> Result<Value, Error> {
    if validator.is_valid(&value) {
        return Ok(value);
    }
    Err(Error::Violations { what, violations: violations(validator, &value) })
}

fn typed(value: &Value, cedar_type: CedarType) -> Option<PolicyValue> {
    match cedar_type {
        CedarType::String => value.as_str().map(|text| PolicyValue::String(text.to_owned())),
        CedarType::Long => long(value).map(PolicyValue::Long),
        CedarType::Boolean => value.as_bool().map(PolicyValue::Bool),
        CedarType::Decimal => decimal(value).map(PolicyValue::Decimal),
        CedarType::StringSet => {
            let texts = value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<BTreeSet<_>>>().map(PolicyValue::Set)
        }
    }
}

/// Returns the integer; JSON Schema counts 1.0 as one.
fn long(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let float = value.as_f64()?;
        // Beyond 2^53 a float does not say which integer it was.
        #[expect(clippy::cast_possible_truncation, reason = "integral and in range")]
        (float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0).then_some(float as i64)
    })
}

/// Returns the ten-thousandths; nothing if the number has more decimal places or is out of range.
fn decimal(value: &Value) -> Option<i64> {
    if let Some(whole) = value.as_i64() {
        return whole.checked_mul(10_000);
    }
    // The shortest decimal text of a float is the number that was meant.
    let text = value.as_f64()?.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if fraction.len() > 4 {
        return None;
    }
    format!("{whole}{fraction:0<4}").parse().ok()
}

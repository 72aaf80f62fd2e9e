use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aesp_keys::{AzureConfig, Pkcs11Config, VaultConfig};
use figment::{
    Figment,
    error::Kind,
    providers::{Format, Serialized, Toml},
    value::Value,
};

use super::{
    Audit, AuditArchive, Backup, Cluster, Config, Error, Keys,
    nearest::nearest,
    origin::{Origin, line_at, line_of},
    validate::validate,
};

/// What a configuration is made from; later ones win.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// The process's environment; only `AESP_<SECTION>__<KEY>` is looked at.
    pub environment: BTreeMap<String, String>,
    /// What flags set: the key (`listen.grpc`), the flag (`--listen-grpc`), the value.
    pub flags: Vec<(String, String, String)>,
}

/// Reads, merges and validates the configuration.
///
/// # Errors
/// [`Error`], which names the place and what would be right there.
pub fn load(sources: &Sources) -> Result<Config, Error> {
    let loaded = Loaded::read(sources)?;
    let mut figment = Figment::new().merge(Toml::string(&loaded.text));
    for (path, _, text) in &loaded.overrides {
        figment = figment.merge(Serialized::default(&path.join("."), typed(path, text)));
    }
    let config: Config = figment.extract().map_err(|error| loaded.explain(&error, &figment))?;
    validate(config, &loaded)
}

/// The sources in a form that can tell where a key was set last.
pub(super) struct Loaded {
    pub(super) file: Option<PathBuf>,
    text: String,
    overrides: Vec<(Vec<String>, Origin, String)>,
}

impl Loaded {
    fn read(sources: &Sources) -> Result<Self, Error> {
        let text = match &sources.file {
            Some(path) => read_toml(path)?,
            None => String::new(),
        };
        let variables = sources.environment.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix("AESP_").filter(|key| key.contains("__"))?;
            let path = key.to_lowercase().split("__").map(str::to_owned).collect();
            Some((path, Origin::Variable(name.clone()), value.clone()))
        });
        let flags = sources.flags.iter().map(|(key, flag, value)| {
            (key.split('.').map(str::to_owned).collect(), Origin::Flag(flag.clone()), value.clone())
        });
        let overrides = variables.chain(flags).collect();
        Ok(Self { file: sources.file.clone(), text, overrides })
    }

    /// Tells where the key was set last.
    pub(super) fn origin(&self, path: &[String]) -> Origin {
        let overridden = self.overrides.iter().rev().find(|(key, _, _)| key.starts_with(path));
        if let Some((_, origin, _)) = overridden {
            return origin.clone();
        }
        match (&self.file, line_of(&self.text, path)) {
            (Some(file), Some(line)) => Origin::Line(file.clone(), line),
            _ => Origin::Default,
        }
    }

    fn explain(&self, error: &figment::Error, merged: &Figment) -> Error {
        let mut path = error.path.clone();
        if let Kind::UnknownField(field, known) = &error.kind {
            if path.last() != Some(field) {
                path.push(field.clone());
            }
            let hint = match nearest(field, known) {
                Some(meant) => {
                    let section = &path[..path.len() - 1];
                    format!("did you mean `{}`?", [section, &[meant.to_owned()]].concat().join("."))
                }
                None => format!("the keys here are {}", known.join(", ")),
            };
            return Error::UnknownKey { origin: self.origin(&path), key: path.join("."), hint };
        }
        let key = path.join(".");
        let found = || match merged.find_value(&key) {
            Ok(Value::String(_, text)) => format!("\"{text}\""),
            Ok(value) => value.to_actual().to_string(),
            Err(_) => "absent".into(),
        };
        let (found, expected) = match &error.kind {
            Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
                (found.to_string(), expected.clone())
            }
            Kind::UnknownVariant(found, known) => {
                (format!("\"{found}\""), format!("one of {}", known.join(", ")))
            }
            // What stands there may be the secret itself.
            Kind::Message(text) if *text == aesp_keys::Invalid.to_string() => {
                ("something else".into(), text.clone())
            }
            _ if key.starts_with("listen.") => {
                (found(), "an address with a port, for example \"127.0.0.1:9443\"".into())
            }
            other => (found(), format!("as `aesp config default` shows ({other})")),
        };
        Error::Invalid { origin: self.origin(&path), key, found, expected }
    }
}

/// Gives the text of a variable or flag the type that its key has.
fn typed(path: &[String], text: &str) -> Value {
    // A section that may be absent has types, too.
    let backup = Some(Backup::default());
    let keys = Keys {
        vault: Some(VaultConfig::default()),
        azure: Some(AzureConfig::default()),
        pkcs11: Some(Pkcs11Config::default()),
        ..Keys::default()
    };
    let audit = Audit { archive: Some(AuditArchive::default()), ..Audit::default() };
    let full = Config { cluster: Some(Cluster::default()), backup, keys, audit, ..Config::default() };
    let template = Figment::from(Serialized::defaults(full));
    match template.find_value(&path.join(".")) {
        Ok(Value::Num(..)) => text.trim().parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Ok(Value::Array(..)) => {
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().into()
        }
        _ => text.into(),
    }
}

fn read_toml(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    match toml::de::DeTable::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(Error::Syntax {
            path: path.to_owned(),
            line: line_at(&text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }),
    }
}

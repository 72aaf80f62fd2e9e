use crate::Error;

/// A configuration key: what it is called and which texts are its values.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// What it is called.
    pub name: &'static str,
    /// What it decides.
    pub description: &'static str,
    /// What holds while nothing is set.
    pub default: &'static str,
    pub(crate) form: Form,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Integer { min: u64, max: u64 },
    Choice(&'static [&'static str]),
    Secret { max_bytes: usize },
}

/// How long a session lives when its creator names no time, in seconds.
pub(crate) const SESSION_TTL: &str = "sessions.default_ttl_seconds";
/// How long a session lives at most, however often it is renewed, in seconds.
pub(crate) const SESSION_LIFETIME: &str = "sessions.max_lifetime_seconds";
/// Whether Runtimes may register their own tools.
pub(crate) const RUNTIME_MODE: &str = "runtime.mode";
/// What notifications are signed with.
pub(crate) const WEBHOOK_SECRET: &str = "notification.webhook_secret";

/// Every key, in the order of the names.
pub const KEYS: &[Key] = &[
    Key {
        name: WEBHOOK_SECRET,
        description: "The secret that notifications to the tenant's webhooks are signed with. Never read back.",
        default: "",
        form: Form::Secret { max_bytes: 256 },
    },
    Key {
        name: RUNTIME_MODE,
        description: "STRICT: Runtimes serve approved contracts only. DEVELOPMENT: they may register tools for one session.",
        default: "STRICT",
        form: Form::Choice(&["STRICT", "DEVELOPMENT"]),
    },
    Key {
        name: SESSION_TTL,
        description: "How long a session lives when its creator names no time, in seconds.",
        default: "3600",
        form: Form::Integer { min: 1, max: 86_400 },
    },
    Key {
        name: SESSION_LIFETIME,
        description: "How long a session lives at most, however often it is renewed, in seconds.",
        default: "2592000",
        form: Form::Integer { min: 60, max: 31_536_000 },
    },
];

/// Whether Runtimes may bring their own tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeMode {
    /// They serve contracts that an administrator approved, and nothing else.
    #[default]
    Strict,
    /// They may register tools for one session; such tools are marked everywhere.
    Development,
}

impl Key {
    /// Finds the key of this name.
    ///
    /// # Errors
    /// [`Error::UnknownKey`].
    pub fn find(name: &str) -> Result<&'static Self, Error> {
        KEYS.iter()
            .find(|key| key.name == name)
            .ok_or_else(|| Error::UnknownKey(name.chars().take(64).collect()))
    }

    /// Tells whether the value is never read back.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        matches!(self.form, Form::Secret { .. })
    }

    /// Returns the type as it is sent: `integer`, `string` or `secret`.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self.form {
            Form::Integer { .. } => "integer",
            Form::Choice(_) => "string",
            Form::Secret { .. } => "secret",
        }
    }

    /// Checks that `text` is a value of this key. The refusal never repeats the text, which may be a secret.
    ///
    /// # Errors
    /// [`Error::InvalidValue`].
    pub fn check(&self, text: &str) -> Result<(), Error> {
        let (valid, expected) = match self.form {
            Form::Integer { min, max } => {
                let in_range = text.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number));
                (in_range, format!("must be a whole number from {min} to {max}"))
            }
            Form::Choice(choices) => {
                (choices.contains(&text), format!("must be one of {}", choices.join(", ")))
            }
            Form::Secret { max_bytes } => {
                let fits = (1..=max_bytes).contains(&text.len()) && !text.chars().any(char::is_control);
                (fits, format!("must have 1 to {max_bytes} bytes without control characters"))
            }
        };
        if valid { Ok(()) } else { Err(Error::InvalidValue { key: self.name, expected }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order_and_defaults_are_values() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for key in KEYS.iter().filter(|key| !key.is_sensitive()) {
            key.check(key.default).expect(key.name);
        }
    }

    #[test]
    fn a_refused_secret_is_not_repeated() {
        let key = Key::find(WEBHOOK_SECRET).expect("exists");
        let error = key.check("canary\u{7}").expect_err("has a control character");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}

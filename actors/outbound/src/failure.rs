use std::{fmt, time::Duration};

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Who is to act.
    pub cause: Cause,
    /// For the operator: what was seen, and where it helps, what to do. Never a secret.
    pub why: String,
    /// When they want to be asked again.
    pub retry_after: Option<Duration>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No connection, or it broke before the sink had answered.
    Unreachable,
    /// It did not answer in time.
    Slow,
    /// It says that it can't take anything now, or that it is full.
    Busy,
    /// It refuses this Host: its credentials, its certificate, the address or the index.
    Refused,
    /// It sends the Host elsewhere, which is never followed.
    Redirected,
    /// Its answer can't be understood.
    Garbled,
    /// It took events and never confirmed that it has them.
    Unconfirmed,
    /// It refuses the content of what was sent, whatever it is.
    Content,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unreachable,
        Self::Slow,
        Self::Busy,
        Self::Refused,
        Self::Redirected,
        Self::Garbled,
        Self::Unconfirmed,
        Self::Content,
    ];

    /// Returns its name in metrics and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Slow => "slow",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Redirected => "redirected",
            Self::Garbled => "garbled",
            Self::Unconfirmed => "unconfirmed",
            Self::Content => "content",
        }
    }
}

impl Failure {
    /// Makes a failure; what was seen is made fit for a log line.
    pub fn new(cause: Cause, why: impl Into<String>) -> Self {
        Self { cause, why: cut(why.into()), retry_after: None }
    }

    /// Says when they want to be asked again.
    #[must_use]
    pub fn after(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.name(), self.why)
    }
}

/// Bytes of others' own words that are kept.
const WORDS_BYTES: usize = 512;

/// Makes a stranger's text fit for a log line: short, in one line, without control characters.
#[must_use]
pub fn cut(text: String) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= WORDS_BYTES {
        return clean;
    }
    format!("{}…", &clean[..clean.floor_char_boundary(WORDS_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_are_short_and_on_one_line() {
        let failure = Failure::new(Cause::Busy, format!("a\r\nb\u{1b}[31m{}", "ä".repeat(1_000)));
        assert!(failure.why.starts_with("a  b [31mä") && failure.why.len() <= WORDS_BYTES + 3);
        assert!(!failure.why.chars().any(char::is_control));
    }
}

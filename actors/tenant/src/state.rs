//! The decisions about a tenant's life, without store, clock or chance.

use crate::{Error, Status};

/// A change in a tenant's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    Suspend,
    Resume,
    Delete,
}

impl Transition {
    fn participle(self) -> &'static str {
        match self {
            Self::Suspend => "suspended",
            Self::Resume => "resumed",
            Self::Delete => "deleted",
        }
    }
}

impl Status {
    /// Returns the status after the change. Deleting an active tenant is allowed; its name must be confirmed elsewhere.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the change does not start from this status.
    pub(crate) fn after(self, transition: Transition) -> Result<Self, Error> {
        match (self, transition) {
            (Self::Active, Transition::Suspend) => Ok(Self::Suspended),
            (Self::Suspended, Transition::Resume) => Ok(Self::Active),
            (Self::Active | Self::Suspended, Transition::Delete) => Ok(Self::Deleted),
            (status, change) => Err(Error::Conflict { status: status.as_str(), change: change.participle() }),
        }
    }

    /// Tells why a tenant in this status may start nothing.
    pub(crate) fn refusal(self) -> Option<Error> {
        match self {
            Self::Active => None,
            Self::Suspended => Some(Error::Suspended),
            Self::Deleted => Some(Error::Deleted),
        }
    }
}

/// Tells whether the text may be a tenant's name: `^[a-z][a-z0-9-]{1,62}$`.
pub(crate) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (2..=63).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

#[cfg(test)]
mod tests {
    use aesp_proto::ErrorCode;
    use proptest::prelude::*;

    use super::*;

    fn transition() -> impl Strategy<Value = Transition> {
        prop_oneof![Just(Transition::Suspend), Just(Transition::Resume), Just(Transition::Delete)]
    }

    proptest! {
        #[test]
        fn a_deleted_tenant_stays_deleted_and_only_an_active_one_is_admitted(
            transitions in proptest::collection::vec(transition(), 0..20),
        ) {
            let mut status = Status::Active;
            let mut deleted = false;
            for transition in transitions {
                let before = status;
                match status.after(transition) {
                    Ok(after) => {
                        prop_assert_ne!(after, before, "a transition changes something");
                        status = after;
                    }
                    Err(error) => prop_assert_eq!(error.code(), ErrorCode::StateConflict),
                }
                deleted |= status == Status::Deleted;
                prop_assert_eq!(deleted, status == Status::Deleted);
                prop_assert_eq!(status.refusal().is_none(), status == Status::Active);
            }
        }

        #[test]
        fn names_are_those_of_the_pattern(text in "[a-z0-9A-Z_ -]{0,66}") {
            let mut chars = text.chars();
            let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
            let rest = chars.clone().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-'));
            let length = (1..=62).contains(&chars.count());
            prop_assert_eq!(is_name(&text), first && rest && length);
        }
    }
}

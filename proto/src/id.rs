use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    str::FromStr,
};

use data_encoding::{Encoding, Specification};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Entropy, Timestamp};

/// Tells one kind of id from another, in the type and in the text.
pub trait IdKind: 'static {
    /// What the text of the id starts with, without the underscore.
    const PREFIX: &'static str;
}

/// A random 128-bit id of one kind: 16 bytes in the store, `prefix_` and 26 characters of base 32 elsewhere.
pub struct Id<K>([u8; 16], PhantomData<fn() -> K>);

/// The kinds of ids.
pub mod kind {
    use super::IdKind;

    /// Of a tenant.
    #[derive(Debug)]
    pub enum Tenant {}
    /// Of a session.
    #[derive(Debug)]
    pub enum Session {}
    /// Of a user, service account or system account.
    #[derive(Debug)]
    pub enum Principal {}
    /// Of one connection of a Runtime.
    #[derive(Debug)]
    pub enum Connection {}
    /// Of one attempt to run a call at a Runtime.
    #[derive(Debug)]
    pub enum Dispatch {}
    /// Of one decision of the authoriser.
    #[derive(Debug)]
    pub enum Decision {}
    /// Of an audit event.
    #[derive(Debug)]
    pub enum Event {}
    /// Of a store transaction whose commit may have to be looked up.
    #[derive(Debug)]
    pub enum Request {}
    /// Of an audit writer's incarnation.
    #[derive(Debug)]
    pub enum Writer {}
    /// Of a legal hold.
    #[derive(Debug)]
    pub enum Hold {}
    /// Of an access token, refresh token family, API key or policy.
    #[derive(Debug)]
    pub enum Token {}
    /// Of an alert.
    #[derive(Debug)]
    pub enum Alert {}
    /// Of a silence of alerts.
    #[derive(Debug)]
    pub enum Silence {}
    /// Of a message about alerts to a receiver.
    #[derive(Debug)]
    pub enum Delivery {}

    impl IdKind for Tenant {
        const PREFIX: &'static str = "ten";
    }
    impl IdKind for Session {
        const PREFIX: &'static str = "ses";
    }
    impl IdKind for Principal {
        const PREFIX: &'static str = "prn";
    }
    impl IdKind for Connection {
        const PREFIX: &'static str = "con";
    }
    impl IdKind for Dispatch {
        const PREFIX: &'static str = "dsp";
    }
    impl IdKind for Decision {
        const PREFIX: &'static str = "dec";
    }
    impl IdKind for Event {
        const PREFIX: &'static str = "evt";
    }
    impl IdKind for Request {
        const PREFIX: &'static str = "req";
    }
    impl IdKind for Writer {
        const PREFIX: &'static str = "wrt";
    }
    impl IdKind for Hold {
        const PREFIX: &'static str = "hld";
    }
    impl IdKind for Token {
        const PREFIX: &'static str = "tok";
    }
    impl IdKind for Alert {
        const PREFIX: &'static str = "alr";
    }
    impl IdKind for Silence {
        const PREFIX: &'static str = "sil";
    }
    impl IdKind for Delivery {
        const PREFIX: &'static str = "dlv";
    }
}

/// Names a tenant; [`TenantId::PLATFORM`] is the operators' own.
pub type TenantId = Id<kind::Tenant>;
/// Names a session.
pub type SessionId = Id<kind::Session>;
/// Names a principal.
pub type PrincipalId = Id<kind::Principal>;
/// Names a Runtime's connection.
pub type ConnectionId = Id<kind::Connection>;
/// Names one attempt at a call.
pub type DispatchId = Id<kind::Dispatch>;
/// Names a decision.
pub type DecisionId = Id<kind::Decision>;
/// Names an audit event.
pub type EventId = Id<kind::Event>;
/// Names a store transaction.
pub type RequestId = Id<kind::Request>;
/// Names an audit writer.
pub type WriterId = Id<kind::Writer>;
/// Names a legal hold.
pub type HoldId = Id<kind::Hold>;
/// Names a token, key or policy.
pub type TokenId = Id<kind::Token>;
/// Names an alert.
pub type AlertId = Id<kind::Alert>;
/// Names a silence of alerts.
pub type SilenceId = Id<kind::Silence>;
/// Names a message about alerts.
pub type DeliveryId = Id<kind::Delivery>;

/// The text is not an id of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ and 26 characters of base 32")]
pub struct InvalidId {
    prefix: &'static str,
}

impl TenantId {
    /// The tenant of the platform itself: its operators, its catalogue, its audit log.
    pub const PLATFORM: Self = Self::from_bytes([0; 16]);
}

impl<K> Id<K> {
    /// Returns the id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes, PhantomData)
    }

    /// Draws a random id.
    #[must_use]
    pub fn random(entropy: &Entropy) -> Self {
        Self::from_bytes(entropy.bytes())
    }

    /// Draws an id that begins with the time, so that ids sort as they were made: 48 bits of milliseconds, 80 at random.
    #[must_use]
    pub fn timed(at: Timestamp, entropy: &Entropy) -> Self {
        let mut bytes = entropy.bytes();
        bytes[..6].copy_from_slice(&at.0.max(0).to_be_bytes()[2..]);
        Self::from_bytes(bytes)
    }

    /// Returns the 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl<K: IdKind> Id<K> {
    /// Returns the id with these bytes.
    ///
    /// # Errors
    /// [`InvalidId`] unless there are 16.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, InvalidId> {
        bytes.try_into().map(Self::from_bytes).map_err(|_| InvalidId { prefix: K::PREFIX })
    }
}

/// Base 32 in lower case, in the order of the bytes (RFC 4648 "extended hex" alphabet, no padding).
fn base32() -> &'static Encoding {
    use std::sync::OnceLock;
    static ENCODING: OnceLock<Encoding> = OnceLock::new();
    ENCODING.get_or_init(|| {
        let mut specification = Specification::new();
        specification.symbols.push_str("0123456789abcdefghijklmnopqrstuv");
        specification.encoding().expect("32 distinct symbols")
    })
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 26];
        base32().encode_mut(&self.0, &mut text);
        write!(f, "{}_{}", K::PREFIX, std::str::from_utf8(&text).expect("base 32 is ASCII"))
    }
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId { prefix: K::PREFIX };
        let digits = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')).ok_or(invalid)?;
        let bytes = base32().decode(digits.as_bytes()).map_err(|_| invalid)?;
        Self::from_slice(&bytes)
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// By hand, because a derive would ask the same of the marker.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips_and_keeps_order(a: [u8; 16], b: [u8; 16]) {
            let (a, b) = (SessionId::from_bytes(a), SessionId::from_bytes(b));
            prop_assert_eq!(a.to_string().parse::<SessionId>(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,40}") {
            if let Ok(id) = text.parse::<TenantId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let session = SessionId::from_bytes([7; 16]).to_string();
        assert!(session.parse::<TenantId>().is_err());
    }
}

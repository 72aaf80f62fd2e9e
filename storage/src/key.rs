// The key table. A key is `tenant (16 bytes) | kind (2 bytes, big-endian) | row key`. Kinds are only ever appended and never
// used again for something else: they are in every store and every backup.
//
// Keys are plaintext in every engine and backup. A natural identifier (a name, an address) goes into one as a
// `Blind` only.
//
// | kind                 | code | row key                                 |
// |----------------------|------|-----------------------------------------|
// | REQUEST              | 0001 | millisecond (8) · id (16); PLATFORM     |
// | SHARD                | 0002 | shard (2); PLATFORM                     |
// | TENANT_KEYS          | 0003 | none                                    |
// | REVISION             | 0004 | none                                    |
// | INCARNATION          | 0005 | none; PLATFORM                          |
// | CANARY               | 0006 | none; PLATFORM                          |
// | CHUNK                | 0007 | kind (2) · row key · number (2)         |
// | NODE                 | 0008 | incarnation (8); PLATFORM               |
// | DEAD_NODE            | 0009 | incarnation (8); PLATFORM               |
// | RIGHTS_CHANGE        | 000A | position (8); PLATFORM                  |
// | CLUSTER              | 000B | name of the setting; PLATFORM           |
// | JOIN_TOKEN           | 000C | token (16); PLATFORM                    |
// | KEY_ROTATION         | 000D | tenant (16); PLATFORM                   |
// | KEY_REWRAP           | 000E | none; PLATFORM                          |
// | TENANT …             | 0010 | tenants and their configuration         |
// | CONTRACT …           | 0020 | the catalogue                           |
// | PRINCIPAL …          | 0030 | identity                                |
// | ROLE …               | 0040 | policy                                  |
// | SESSION …            | 0050 | sessions and outcomes                   |
// | RUNTIME_REGISTRATION | 0060 | Runtimes                                |
// | AUDIT_EVENT …        | 0070 | the audit log                           |
// | SEARCH_STATE …       | 0080 | the index of the audit log              |
// | PLATFORM_LOG_NEWS …  | 0090 | the log of all logs' heads, its witnesses |
// | AUDIT_SINK …         | 00A0 | where audit events are sent             |
// | ALERT_RULES …        | 00B0 | alert rules, alerts, their deliveries   |
// | AUDIT_PARTITION_KEY … | 00C0 | retention and erasure of audit events  |

use aesp_proto::TenantId;

use crate::{Error, KeyWriter, RowKey, limits};

/// What a row is: two bytes of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u16);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self($code);)*
            /// Every kind with its name, in the order of the codes.
            pub const ALL: &'static [(&'static str, Self)] = &[$((stringify!($name), Self($code)),)*];
        }
    };
}

// A macro, so that `ALL`, which the tests check for doubles, can't miss one.
kinds! {
    /// A transaction that committed, by its request id.
    REQUEST = 0x0001;
    /// Who owns a shard, at which epoch.
    SHARD = 0x0002;
    /// A tenant's keys, wrapped.
    TENANT_KEYS = 0x0003;
    /// How often the rights within a tenant have changed.
    REVISION = 0x0004;
    /// The last incarnation number given to a node.
    INCARNATION = 0x0005;
    /// Tells a wrong master key.
    CANARY = 0x0006;
    /// A part of a row that is too long for one value.
    CHUNK = 0x0007;
    /// A node's lease, endpoints and state.
    NODE = 0x0008;
    /// A node's incarnation that is over for ever.
    DEAD_NODE = 0x0009;
    /// Whose rights changed, in the order of the changes.
    RIGHTS_CHANGE = 0x000A;
    /// What all nodes of the cluster share: its secrets and settings.
    CLUSTER = 0x000B;
    /// A token with which a node may join.
    JOIN_TOKEN = 0x000C;
    /// A rotation of a tenant's data key that is not over.
    KEY_ROTATION = 0x000D;
    /// How far the tenants' keys are wrapped under the newest master key.
    KEY_REWRAP = 0x000E;
    /// A tenant.
    TENANT = 0x0010;
    /// A tenant by its name.
    TENANT_NAME = 0x0011;
    /// A configuration value.
    CONFIG = 0x0012;
    /// What a configuration value was before.
    CONFIG_HISTORY = 0x0013;
    /// What nodes may hold of a tenant's limits, at the most.
    CREDITS = 0x0014;
    /// A tool contract.
    CONTRACT = 0x0020;
    /// The active version of a contract.
    ACTIVE_CONTRACT = 0x0021;
    /// A user or account.
    PRINCIPAL = 0x0030;
    /// A principal by its name.
    PRINCIPAL_NAME = 0x0031;
    /// An API key.
    API_KEY = 0x0032;
    /// A family of refresh tokens.
    REFRESH_FAMILY = 0x0033;
    /// A key that signs access tokens.
    SIGNING_KEY = 0x0034;
    /// A token that was revoked before its time.
    REVOKED_TOKEN = 0x0035;
    /// The principal behind a client certificate.
    CERTIFICATE_BINDING = 0x0036;
    /// A role.
    ROLE = 0x0040;
    /// A role given to a principal.
    ASSIGNMENT = 0x0041;
    /// A policy.
    POLICY = 0x0042;
    /// A session.
    SESSION = 0x0050;
    /// The outcome of a call.
    OUTCOME = 0x0051;
    /// Where a dispatch belongs.
    DISPATCH = 0x0052;
    /// What a Runtime's certificate identity may serve.
    RUNTIME_REGISTRATION = 0x0060;
    /// An audit event.
    AUDIT_EVENT = 0x0070;
    /// A batch of audit events.
    AUDIT_BATCH = 0x0071;
    /// A writer of the audit log.
    AUDIT_WRITER = 0x0072;
    /// A key that signs the audit log.
    AUDIT_KEY = 0x0073;
    /// Whose logs a commit made longer.
    AUDIT_COMMIT = 0x0074;
    /// A tile of the Merkle tree over a tenant's events.
    LOG_TILE = 0x0075;
    /// Where the events of a tile stand in the log.
    LOG_BUNDLE = 0x0076;
    /// How far a tenant's log is sealed.
    LOG_STATE = 0x0077;
    /// A signed checkpoint of a tenant's log.
    LOG_CHECKPOINT = 0x0078;
    /// A key that signs checkpoints.
    LOG_KEY = 0x0079;
    /// The leaf of an event, by the event's id.
    LOG_LEAF = 0x007A;
    /// A key that signed, in another store, a part of a log that is here.
    AUDIT_FOREIGN_KEY = 0x007F;
    /// How far a tenant's index of its audit log is.
    SEARCH_STATE = 0x0080;
    /// Which events a segment of the index holds.
    SEARCH_SEGMENT = 0x0081;
    /// Where the events of a segment stand.
    SEARCH_PLACES = 0x0082;
    /// How many events of a segment are of each sort.
    SEARCH_COUNTS = 0x0083;
    /// Which events of a segment have which terms.
    SEARCH_TERMS = 0x0084;
    /// A head of a tenant's log that is not in the platform log yet.
    PLATFORM_LOG_NEWS = 0x0090;
    /// A tile of the Merkle tree over the heads of all tenants' logs.
    PLATFORM_LOG_TILE = 0x0091;
    /// A leaf of the platform log.
    PLATFORM_LOG_ENTRY = 0x0092;
    /// How far the platform log is.
    PLATFORM_LOG_STATE = 0x0093;
    /// The leaf of the platform log that is the head of a log at a size.
    PLATFORM_LOG_HEAD = 0x0094;
    /// The checkpoints of the platform log with their cosignatures.
    PLATFORM_LOG_COSIGNED = 0x0095;
    /// What a witness of the platform log cosigned last, and what is held against it.
    WITNESS = 0x0096;
    /// The last checkpoint of the platform log that was anchored.
    ANCHOR = 0x0097;
    /// A sink of audit events.
    AUDIT_SINK = 0x00A0;
    /// How a sink fares, as a node tells it.
    AUDIT_SINK_REPORT = 0x00A1;
    /// How far a sink has taken a tenant's events.
    AUDIT_SINK_CURSOR = 0x00A2;
    /// An event that a sink refused.
    AUDIT_DEAD_LETTER = 0x00A3;
    /// A version of a tenant's alert rules.
    ALERT_RULES = 0x00B0;
    /// Which version holds, and how often people changed anything about a tenant's alerts.
    ALERT_HEAD = 0x00B1;
    /// How far a tenant's log is looked through for alerts.
    ALERT_CURSOR = 0x00B2;
    /// Since when an alert rule is there.
    ALERT_RULE_SINCE = 0x00B3;
    /// What was counted for a group of an alert rule.
    ALERT_GROUP = 0x00B4;
    /// An alert.
    ALERT = 0x00B5;
    /// A silence of alerts.
    ALERT_SILENCE = 0x00B6;
    /// What a receiver of alerts is to be told, and was told.
    ALERT_NOTE = 0x00B7;
    /// A message about alerts to a receiver, and what became of it.
    ALERT_DELIVERY = 0x00B8;
    /// The key of a partition of a tenant's audit log.
    AUDIT_PARTITION_KEY = 0x00C0;
    /// The key of a subject of a tenant's audit log.
    AUDIT_SUBJECT_KEY = 0x00C1;
    /// An audit key that was destroyed.
    AUDIT_DESTRUCTION = 0x00C2;
    /// How long a tenant's audit events are kept.
    RETENTION_POLICY = 0x00C3;
    /// What a tenant's retention rules were before.
    RETENTION_HISTORY = 0x00C4;
    /// A legal hold on audit events.
    LEGAL_HOLD = 0x00C5;
    /// How far a tenant's log was gone through for events whose keys were destroyed.
    AUDIT_SWEEP = 0x00C6;
    /// A bundle of audit events that lies on an object store.
    AUDIT_BUNDLE = 0x00C7;
}

impl Kind {
    /// Returns the code, as it stands in keys.
    #[must_use]
    pub const fn code(self) -> u16 {
        self.0
    }

    /// Returns the two bytes of the code.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// Returns what every key of this kind in this tenant starts with (18 bytes). For raw keys append to it.
#[must_use]
pub fn row_key(tenant: TenantId, kind: Kind, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX_BYTES + rest.len());
    out.extend_from_slice(tenant.as_bytes());
    out.extend_from_slice(&kind.to_bytes());
    out.extend_from_slice(rest);
    out
}

/// How many bytes come before the row key.
pub(crate) const PREFIX_BYTES: usize = 18;

/// Returns the key of a typed row.
///
/// # Errors
/// [`Error::TooLarge`] if it has more than 500 bytes, or 496 less the prefix of a chunk where it could be chunked.
pub(crate) fn typed<K: RowKey>(tenant: TenantId, kind: Kind, key: &K) -> Result<Vec<u8>, Error> {
    let mut writer = KeyWriter::with_prefix(row_key(tenant, kind, &[]));
    key.write(&mut writer);
    let out = writer.finish();
    // A chunk's key must fit as well: two bytes of kind and two of number more.
    limits::check("key", out.len(), limits::MAX_KEY_BYTES - CHUNK_EXTRA_BYTES)?;
    Ok(out)
}

const CHUNK_EXTRA_BYTES: usize = 4;

/// Returns what the keys of the row's chunks start with.
pub(crate) fn chunk_prefix(key: &[u8]) -> Vec<u8> {
    let (tenant, rest) = key.split_at(16);
    [tenant, &Kind::CHUNK.to_bytes(), rest].concat()
}

/// Returns the first key after all that start with `prefix`; for a prefix of nothing but 0xFF, the end of the key space.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut out = prefix.to_vec();
    while let Some(last) = out.pop() {
        if last < u8::MAX {
            out.push(last + 1);
            return out;
        }
    }
    vec![u8::MAX; limits::MAX_KEY_BYTES + 1]
}

/// Returns the first key after this one.
pub(crate) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests;

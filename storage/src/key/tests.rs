use std::collections::BTreeSet;

use super::*;
use crate::encode;

const TENANT: TenantId = TenantId::from_bytes([0xAB; 16]);

/// The table as it is in every store. A line may be added, never changed.
#[test]
fn kinds_never_change() {
    let table: Vec<_> = Kind::ALL.iter().map(|(name, kind)| format!("{:04x} {name}", kind.code())).collect();
    let golden = "\
        0001 REQUEST|0002 SHARD|0003 TENANT_KEYS|0004 REVISION|0005 INCARNATION|0006 CANARY|0007 CHUNK|\
        0008 NODE|0009 DEAD_NODE|000a RIGHTS_CHANGE|000b CLUSTER|000c JOIN_TOKEN|000d KEY_ROTATION|000e KEY_REWRAP|\
        0010 TENANT|0011 TENANT_NAME|0012 CONFIG|0013 CONFIG_HISTORY|0014 CREDITS|0020 CONTRACT|0021 ACTIVE_CONTRACT|\
        0030 PRINCIPAL|0031 PRINCIPAL_NAME|0032 API_KEY|0033 REFRESH_FAMILY|0034 SIGNING_KEY|0035 REVOKED_TOKEN|\
        0036 CERTIFICATE_BINDING|0040 ROLE|0041 ASSIGNMENT|0042 POLICY|0050 SESSION|0051 OUTCOME|0052 DISPATCH|\
        0060 RUNTIME_REGISTRATION|0070 AUDIT_EVENT|0071 AUDIT_BATCH|0072 AUDIT_WRITER|0073 AUDIT_KEY|\
        0074 AUDIT_COMMIT|0075 LOG_TILE|0076 LOG_BUNDLE|0077 LOG_STATE|0078 LOG_CHECKPOINT|0079 LOG_KEY|007a LOG_LEAF|007f AUDIT_FOREIGN_KEY|\
        0080 SEARCH_STATE|0081 SEARCH_SEGMENT|0082 SEARCH_PLACES|0083 SEARCH_COUNTS|0084 SEARCH_TERMS|\
        0090 PLATFORM_LOG_NEWS|0091 PLATFORM_LOG_TILE|0092 PLATFORM_LOG_ENTRY|0093 PLATFORM_LOG_STATE|0094 PLATFORM_LOG_HEAD|\
        0095 PLATFORM_LOG_COSIGNED|0096 WITNESS|0097 ANCHOR|\
        00a0 AUDIT_SINK|00a1 AUDIT_SINK_REPORT|00a2 AUDIT_SINK_CURSOR|00a3 AUDIT_DEAD_LETTER|\
        00b0 ALERT_RULES|00b1 ALERT_HEAD|00b2 ALERT_CURSOR|00b3 ALERT_RULE_SINCE|00b4 ALERT_GROUP|00b5 ALERT|\
        00b6 ALERT_SILENCE|00b7 ALERT_NOTE|00b8 ALERT_DELIVERY|\
        00c0 AUDIT_PARTITION_KEY|00c1 AUDIT_SUBJECT_KEY|00c2 AUDIT_DESTRUCTION|00c3 RETENTION_POLICY|00c4 RETENTION_HISTORY|00c5 LEGAL_HOLD|00c6 AUDIT_SWEEP|00c7 AUDIT_BUNDLE";
    assert_eq!(table.join("|"), golden);
    let codes: BTreeSet<_> = Kind::ALL.iter().map(|(_, kind)| kind.code()).collect();
    assert_eq!(codes.len(), Kind::ALL.len(), "no code is used twice");
}

#[test]
fn keys_keep_their_bytes() {
    let key = typed(TENANT, Kind::OUTCOME, &([1_u8; 16], 258_u64)).unwrap();
    let golden = [&[0xAB; 16][..], &[0, 0x51], &[1; 16], &[0, 0, 0, 0, 0, 0, 1, 2]].concat();
    assert_eq!(key, golden);
    assert_eq!(chunk_prefix(&key), [&[0xAB; 16][..], &[0, 7, 0, 0x51], &golden[18..]].concat());
}

#[test]
fn long_keys_are_refused_before_their_chunks_would_not_fit() {
    assert!(typed(TENANT, Kind::CONFIG, &"x".repeat(476)).is_ok());
    assert!(matches!(
        typed(TENANT, Kind::CONFIG, &"x".repeat(477)),
        Err(Error::TooLarge { what: "key", .. })
    ));
    assert_eq!(encode(&"x".repeat(476)).len(), 478);
}

#[test]
fn a_prefix_ends_before_the_next() {
    assert_eq!(after_prefix(&[1, 2]), [1, 3]);
    assert_eq!(after_prefix(&[1, 0xFF]), [2]);
    assert!(after_prefix(&[0xFF]) > vec![0xFF; limits::MAX_KEY_BYTES]);
}

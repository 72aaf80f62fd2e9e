//! Pins the bytes that can't change any more. A failing test here means: old logs would not verify.

use aesp_audit_receipt::{head, proven_root, signature_input};
use aesp_merkle::leaf_hash;
use aesp_proto::{
    DecisionId, Entropy, EventId, PrincipalId, Revision, SessionId, TenantId, Timestamp, WriterId,
    v1::{EventType, Outcome},
};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use prost::Message;

use crate::{
    Details, Event,
    batch::{self, Link},
    key::NodeKey,
    leaf::{self, Place},
    line,
};

const TENANT: TenantId = TenantId::from_bytes([2; 16]);
const WRITER: WriterId = WriterId::from_bytes([7; 16]);

fn event() -> Event {
    let kind = EventType::ToolInvocation;
    let mut event = Event::new(&Entropy::from_seed(1), TENANT, kind, "tool.invoke", Outcome::Denied);
    event.id = EventId::from_bytes([1; 16]);
    event.principal = Some(PrincipalId::from_bytes([3; 16]));
    event.session = Some(SessionId::from_bytes([4; 16]));
    event.decision = Some(DecisionId::from_bytes([5; 16]));
    event.on_behalf_of = Some(PrincipalId::from_bytes([6; 16]));
    event.revision = Revision(300);
    event.external = true;
    event.count = 12;
    event.details = Details {
        resource: "git_log".into(),
        source_ip: "192.0.2.1".into(),
        user_agent: "ua".into(),
        reason: "role".into(),
        correlation_id: "c".into(),
        invocation_id: "i".into(),
        fields: vec![("k".into(), "v".into())],
        policy_violations: vec!["p".into()],
        risk_score: 0.5,
        arguments: Some(Bytes::from_static(b"{}")),
        result: Some(Bytes::from_static(b"1")),
    };
    event
}

fn leaf_bytes() -> Vec<u8> {
    let place = Place { writer: WRITER, sequence: 9, timestamp: Timestamp(1_700_000_000_000) };
    leaf::leaf(&event(), place, vec![0xAA; 3], vec![8; 16]).encode_to_vec()
}

#[track_caller]
fn assert_hex(bytes: &[u8], golden: &str) {
    assert_eq!(HEXLOWER.encode(bytes), golden);
}

#[test]
fn leaf_and_its_hash() {
    assert_hex(
        &leaf_bytes(),
        "08011210010101010101010101010101010101011a10020202020202020202020202020202022080d095ffbc31280332\
         0b746f6f6c2e696e766f6b6538034210030303030303030303030303030303034a100404040404040404040404040404\
         040452100505050505050505050505050505050558ac026001680c7210060606060606060606060606060606067a03aa\
         aaaa8201100707070707070707070707070707070788010992011008080808080808080808080808080808",
    );
    assert_hex(&leaf_hash(&leaf_bytes()), "fb7b15153523837abbb46ffbc411a19cac2d184f7810f48bb73ed80da2f87a46");
}

#[test]
fn an_event_of_one_without_anything_else_leaves_the_defaults_out() {
    let mut event = Event::new(&Entropy::from_seed(1), TENANT, EventType::SystemEvent, "a", Outcome::Success);
    event.id = EventId::from_bytes([1; 16]);
    let place = Place { writer: WRITER, sequence: 1, timestamp: Timestamp(1) };
    assert_hex(
        &leaf::leaf(&event, place, Vec::new(), Vec::new()).encode_to_vec(),
        "08011210010101010101010101010101010101011a10020202020202020202020202020202022001280a320161380182\
         011007070707070707070707070707070707880101",
    );
}

#[test]
fn sealed_plaintext_and_what_it_is_bound_to() {
    let digest = |bytes: &[u8]| vec![bytes.len() as u8; 2];
    assert_hex(
        &leaf::plaintext(&event().details, digest).encode_to_vec(),
        "0a076769745f6c6f6712093139322e302e322e311a02756122060a016b1201762a04726f6c653201633a016942017049\
         000000000000e03f520202025a020101",
    );
    let bound = [[1; 16], [2; 16]].concat();
    assert_eq!(leaf::sealed_aad(&event().id, &TENANT).as_slice(), bound);
}

#[test]
fn batch_head_signature_and_proof() {
    let (first, _, link) = Link::default().extend(WRITER, TENANT, vec![leaf_hash(&leaf_bytes()); 3]);
    assert_hex(
        &first,
        "08011210070707070707070707070707070707071a100202020202020202020202020202020220012803322000000000\
         000000000000000000000000000000000000000000000000000000003a20d8482ef5d6589bcfe8595e6c5114ff0d3f98\
         7cb5d90bdcfe697e05ee1b3d6e07",
    );
    assert_hex(&head(&first), "1b27138d5cbcca5c47649e65205b0cb68374e5ca8d4d2e2ae071cdeb81ec7d90");
    assert_eq!(link, Link { next_sequence: 4, head: head(&first) });

    assert_hex(
        &signature_input(&[0xBB; 32]),
        "616573702d61756469742d62617463682d76310abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\
         bbbbbbbb",
    );
    assert_hex(
        &line::signature_input(&[0xBB; 32]),
        "616573702d61756469742d6578706f72742d76310abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\
         bbbbbbbbbb",
    );

    let key = NodeKey::from_seed(&[9; 32]).unwrap();
    assert_hex(key.id(), "dbc298251c51321b");
    let (second, _, _) = link.extend(WRITER, TENANT, vec![[1; 32]]);
    let proofs = batch::sign(&key, vec![first, second]);
    assert_hex(
        &proofs[1].encode_to_vec(),
        "0a6e08011210070707070707070707070707070707071a10020202020202020202020202020202022004280132201b27\
         138d5cbcca5c47649e65205b0cb68374e5ca8d4d2e2ae071cdeb81ec7d903a2001010101010101010101010101010101\
         0101010101010101010101010101010110011802222041d2e23ba99816ee132924d7063effe22e157af3a0f06c82b0a5\
         16f8a95ae5ba2a40aa4d5de3ef5a9b4abf7c06cd843311b0992443d68af51c462407b01c2422c2ac4f2944b04f76d7a4\
         586366735d53da9fae25391b66cb25b4b56b2dc2b92703063208dbc298251c51321b",
    );
    let root = proven_root(&proofs[1]).unwrap();
    assert!(key.public().verifies(&signature_input(&root), &proofs[1].signature));
}

#[test]
fn what_strangers_send_too_long_is_cut_at_a_character() {
    let details = Details { user_agent: "ä".repeat(5_000), ..Details::default() };
    let cut = leaf::plaintext(&details, |_| Vec::new()).user_agent;
    assert!(cut.len() <= 1024 && cut.ends_with("ä…"));
}

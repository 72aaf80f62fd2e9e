use aesp_merkle::Tree;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::head;

/// The receipt of the second of three events in a batch that is the first of two in its commit.
fn receipt() -> (Receipt, PublicKey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public = PublicKey(pair.public_key().as_ref().try_into().unwrap());
    let leaf = |sequence| AuditLeaf {
        format: 1,
        event_id: vec![1; 16],
        tenant_id: vec![2; 16],
        timestamp_ms: 1_700_000_000_000,
        event_type: 3,
        action: "tool.invoke".into(),
        outcome: 1,
        writer_id: vec![7; 16],
        sequence,
        ..AuditLeaf::default()
    };
    let leaves: Vec<Vec<u8>> = (5..8).map(|sequence| leaf(sequence).encode_to_vec()).collect();
    let tree = Tree::new(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
    let batch = AuditBatch {
        format: 1,
        writer_id: vec![7; 16],
        tenant_id: vec![2; 16],
        first_sequence: 5,
        count: 3,
        previous_head: vec![3; 32],
        leaves_root: tree.root().to_vec(),
    };
    let batch = batch.encode_to_vec();
    let heads = Tree::new(vec![leaf_hash(&head(&batch)), [4; 32]]);
    let proof = AuditBatchProof {
        batch,
        head_index: 0,
        head_count: 2,
        path: vec![vec![4; 32]],
        signature: pair.sign(&signature_input(&heads.root())).as_ref().to_vec(),
        key_id: public.id().to_vec(),
    };
    let receipt = AuditReceipt {
        format: 1,
        leaf: leaves[1].clone().into(),
        leaf_index: 1,
        path: tree.path(1).iter().map(|hash| hash.to_vec().into()).collect(),
        proof: proof.encode_to_vec().into(),
    };
    (Receipt(receipt), public)
}

#[test]
fn a_good_receipt_names_its_event_and_who_signed() {
    let (receipt, key) = receipt();
    let shown = receipt.verify(&[PublicKey([1; 32]), key]).unwrap();
    assert_eq!((shown.event, shown.tenant), (EventId::from_bytes([1; 16]), TenantId::from_bytes([2; 16])));
    assert_eq!((shown.at, shown.key), (Timestamp(1_700_000_000_000), key));
    assert_eq!(shown.leaf_hash, leaf_hash(receipt.leaf()));
    assert_eq!(receipt.verify(&[]), Err(Error::UnknownKey(key.id())));
    assert_eq!(receipt.verify(&[PublicKey([1; 32])]), Err(Error::UnknownKey(key.id())));
}

#[test]
fn every_part_must_belong_to_the_others() {
    let (good, key) = receipt();
    type Change = fn(&mut AuditReceipt);
    let changes: [(Change, &str); 5] = [
        (|receipt| receipt.format = 2, "another format"),
        (|receipt| receipt.leaf_index = 2, "another place"),
        (|receipt| drop(receipt.path.pop()), "does not lead"),
        (|receipt| receipt.path[0] = vec![0; 31].into(), "32 bytes"),
        (|receipt| receipt.proof = vec![1].into(), "fixed form"),
    ];
    for (change, why) in changes {
        let mut receipt = good.clone();
        change(&mut receipt.0);
        let error = receipt.verify(&[key]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_line_holds_it_whole() {
    let (receipt, _) = receipt();
    let line = receipt.to_line().unwrap();
    assert_eq!(Receipt::from_line(&line), Ok(receipt));
    let event = EventId::from_bytes([1; 16]).to_string();
    let told = line.replace(&event, &EventId::from_bytes([8; 16]).to_string());
    assert!(Receipt::from_line(&told).is_err(), "another event is named");
    for bad in ["", "{}", &line[1..], &line.replace("v1", "v2"), &format!("{line} ")] {
        assert!(Receipt::from_line(bad).is_err(), "{bad}");
    }
}

/// Pins the bytes: receipts that somebody keeps must verify for ever.
#[test]
fn golden_bytes() {
    let (receipt, _) = receipt();
    assert_eq!(HEXLOWER.encode(&receipt.0.encode_to_vec()), GOLDEN);
    let key = PublicKey(
        HEXLOWER
            .decode(b"fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618")
            .unwrap()
            .try_into()
            .unwrap(),
    );
    let kept = AuditReceipt::decode(HEXLOWER.decode(GOLDEN.as_bytes()).unwrap().as_slice()).unwrap();
    assert!(Receipt(kept).verify(&[key]).is_ok());
}

proptest! {
    /// No byte of a receipt can be another one.
    #[test]
    fn a_changed_receipt_is_not_believed(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let (receipt, key) = receipt();
        let mut bytes = receipt.0.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = AuditReceipt::decode(bytes.as_slice()) {
            // Bytes that say the same in another form are refused where they are kept.
            prop_assume!(changed != receipt.0);
            prop_assert!(Receipt(changed).verify(&[key]).is_err());
        }
    }

    #[test]
    fn any_line_gets_an_answer(line in ".{0,200}") {
        prop_assert!(Receipt::from_line(&line).is_err());
    }
}

const GOLDEN: &str = "0801125408011210010101010101010101010101010101011a10020202020202020202020202020202022080d095ffbc\
    312803320b746f6f6c2e696e766f6b653801820110070707070707070707070707070707078801061801222010507ae7\
    44ae1067b1bc63ac78273e1d285bd765333d987daccd948447bc4ddd2220bb27c2117e49220ff23a218638da305a91b2\
    4483fa2778274154cc7e4013bce42ae0010a6e08011210070707070707070707070707070707071a1002020202020202\
    02020202020202020220052803322003030303030303030303030303030303030303030303030303030303030303033a\
    2050666bb6cb8a5bc951e10eab8390260d8583c66eb657a4a441405822ed6f84c4180222200404040404040404040404\
    0404040404040404040404040404040404040404042a40aa741c6ec9fe0d8d2c9983d5e48be6039d48414c185d78e33d\
    98b0c7ad305cd6642c069a439a66722334e52ab56809c87ec633794178189fdc1606200089c0013208dbc298251c5132\
    1b";

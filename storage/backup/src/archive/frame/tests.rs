use aesp_storage::KeyProvider;
use async_trait::async_trait;
use data_encoding::HEXLOWER;

use super::*;

/// Unwraps everything to one key.
struct Known(u8);

#[async_trait]
impl KeyProvider for Known {
    async fn wrap(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, aesp_storage::Error> {
        Ok(Vec::new())
    }

    async fn unwrap(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, aesp_storage::Error> {
        Ok(vec![self.0; 32])
    }
}

async fn key(byte: u8) -> Arc<BackupKey> {
    Arc::new(BackupKey::unwrap(&Known(byte), &[], &[]).await.unwrap())
}

fn place<'a>(cluster: &'a ClusterId, name: &'a str) -> Place<'a> {
    Place { kind: Kind::Segment, cluster, line: Line(5), name }
}

#[tokio::test]
async fn the_front_never_changes() {
    let cluster = ClusterId("c1".into());
    let object =
        encode(place(&cluster, "a/b"), (3, &*key(7).await), &"clear", b"body body body body").unwrap();
    let front = "41455350".to_owned()
        + "42414b0a" // magic
        + "0001" // format
        + "02" // kind
        + "00000003" // key
        + "00000005" // line
        + "00026331" // cluster
        + "0000000722636c65617222"; // clear
    assert_eq!(HEXLOWER.encode(&object[..front.len() / 2]), front);
}

/// An object as the first release wrote it.
const FIRST: &str = "4145535042414b0a0001020000000300000005000263310000000722636c656172221be582d030041bf1692ec55d9388c73552927b25e61b9f1784614ba31ae65eed7aa4c28a74eebbb64825636b31aea1530821129d17aa812c52fb0fbf";

#[tokio::test]
async fn what_the_first_release_wrote_opens() {
    let (cluster, key) = (ClusterId("c1".into()), key(7).await);
    let object = HEXLOWER.decode(FIRST.as_bytes()).unwrap();
    let place = place(&cluster, "a/b");
    let found = header(place, &object).unwrap();
    assert_eq!(found.key, 3);
    let (clear, body): (String, _) = decode(place, &found, &key, &object).unwrap();
    assert_eq!((clear.as_str(), body.as_slice()), ("clear", b"body body body body".as_slice()));
}

#[tokio::test]
async fn an_object_opens_only_where_it_belongs() {
    let (cluster, key_7) = (ClusterId("c1".into()), key(7).await);
    let there = place(&cluster, "a/b");
    let object = encode(there, (3, &key_7), &1, b"body").unwrap();
    let open = |place: Place<'_>, key: &Arc<BackupKey>, object: &[u8]| {
        header(place, object).and_then(|header| decode::<u8>(place, &header, key, object)).map(|_| ())
    };
    open(there, &key_7, &object).unwrap();
    let renamed = Place { name: "a/c", ..there };
    assert!(matches!(open(renamed, &key_7, &object), Err(Error::Damaged { .. })));
    assert!(matches!(open(there, &key(8).await, &object), Err(Error::Damaged { .. })));
    let other = ClusterId("c2".into());
    assert!(matches!(
        open(Place { cluster: &other, ..there }, &key_7, &object),
        Err(Error::OtherCluster { .. })
    ));
    for elsewhere in [Place { line: Line(6), ..there }, Place { kind: Kind::Chunk, ..there }] {
        assert!(matches!(open(elsewhere, &key_7, &object), Err(Error::Damaged { .. })));
    }
    for length in 0..object.len() {
        assert!(open(there, &key_7, &object[..length]).is_err(), "cut off at {length}");
    }
    for byte in 0..object.len() {
        let mut altered = object.clone();
        altered[byte] ^= 0x40;
        assert!(open(there, &key_7, &altered).is_err(), "byte {byte} altered");
    }
}

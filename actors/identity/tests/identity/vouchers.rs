use std::time::Duration;

use aesp_identity::{Error, Refusal};
use aesp_proto::Incarnation;

use crate::world::{START, World};

const CERTIFICATE: &str = "spiffe://aesp.local/runtime/git-1";
const GATEWAY: Incarnation = Incarnation(7);

#[tokio::test]
async fn a_voucher_holds_for_its_gateway_and_a_minute() {
    let world = World::new().await;
    let tokens = world.tokens().await;
    let voucher = tokens.vouch(CERTIFICATE, GATEWAY, START).unwrap();
    let read = |gateway, seconds| match tokens.vouched(
        &voucher,
        gateway,
        START.plus(Duration::from_secs(seconds)),
    ) {
        Ok(certificate) => Ok(certificate),
        Err(Error::Token(refusal)) => Err(refusal),
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(read(GATEWAY, 0), Ok(CERTIFICATE.into()));
    assert_eq!(read(GATEWAY, 64), Ok(CERTIFICATE.into()));
    assert_eq!(read(GATEWAY, 65), Err(Refusal::Expired));
    assert_eq!(read(Incarnation(8), 0), Err(Refusal::Audience));
}

#[tokio::test]
async fn a_voucher_is_no_access_token_and_the_other_way_round() {
    let world = World::new().await;
    let tokens = world.tokens().await;
    let (principal, _) = world.account(world.acme, "agent").await.unwrap();
    let access = tokens.issue(&principal, None, &world.entropy, START).unwrap();
    let voucher = tokens.vouch(CERTIFICATE, GATEWAY, START).unwrap();
    assert!(matches!(tokens.verify(&voucher, START), Err(Error::Token(Refusal::Type))));
    assert!(matches!(tokens.vouched(access.reveal(), GATEWAY, START), Err(Error::Token(Refusal::Type))));
}

//! Tokens that somebody made up.

use aesp_identity::{AccessToken, Error, Refusal, Tokens};
use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair},
};
use data_encoding::BASE64URL_NOPAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{START, World};

struct Forger {
    tokens: Tokens,
    access: AccessToken,
    header: Value,
    claims: Value,
    own_key: Ed25519KeyPair,
}

impl Forger {
    async fn new() -> Self {
        let world = World::new().await;
        let (principal, _) = world.account(world.acme, "agent").await.unwrap();
        let tokens = world.tokens().await;
        let access = tokens.issue(&principal, None, &world.entropy, START).unwrap();
        let parts: Vec<_> = access.reveal().split('.').collect();
        let part =
            |text: &str| serde_json::from_slice(&BASE64URL_NOPAD.decode(text.as_bytes()).unwrap()).unwrap();
        let (header, claims) = (part(parts[0]), part(parts[1]));
        Self { header, claims, access, tokens, own_key: Ed25519KeyPair::generate().unwrap() }
    }

    fn with(&self, change: &Value) -> Value {
        let mut header = self.header.clone();
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        header
    }

    fn text(&self, header: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let message = format!("{}.{}", encode(header), encode(&self.claims));
        let signature = BASE64URL_NOPAD.encode(&sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn refusal(&self, token: &str) -> Refusal {
        match self.tokens.verify(token, START) {
            Err(Error::Token(refusal)) => refusal,
            other => panic!("{token}: {other:?}"),
        }
    }
}

fn encode(part: &Value) -> String {
    BASE64URL_NOPAD.encode(part.to_string().as_bytes())
}

#[tokio::test]
async fn another_algorithm_is_refused() {
    let forger = Forger::new().await;
    let jwks: Value = serde_json::from_str(&forger.tokens.jwks()).unwrap();
    let public = BASE64URL_NOPAD.decode(jwks["keys"][0]["x"].as_str().unwrap().as_bytes()).unwrap();
    // The classical confusion: the public key taken for the secret of an HMAC.
    let hmac_with_public_key =
        |message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), message).as_ref().to_vec();
    let token = forger.text(&forger.with(&json!({ "alg": "HS256" })), hmac_with_public_key);
    assert_eq!(forger.refusal(&token), Refusal::Algorithm);
    for algorithm in
        ["none", "None", "NONE", "", "HS384", "RS256", "PS512", "ES256", "ES512", "eddsa", "Ed448"]
    {
        for signature in [vec![], vec![0; 64]] {
            let header = forger.with(&json!({ "alg": algorithm }));
            let token = forger.text(&header, |_| signature.clone());
            assert_eq!(forger.refusal(&token), Refusal::Algorithm, "{algorithm}");
        }
    }
}

#[tokio::test]
async fn an_unknown_key_is_refused() {
    let forger = Forger::new().await;
    let sign = |message: &[u8]| forger.own_key.sign(message).as_ref().to_vec();
    let own = BASE64URL_NOPAD.encode(forger.own_key.public_key().as_ref());
    for kid in [json!("tok_00000000000000000000000000"), json!("../../etc/passwd"), json!(""), Value::Null] {
        let token = forger.text(&forger.with(&json!({ "kid": kid })), sign);
        assert_eq!(forger.refusal(&token), Refusal::UnknownKey);
    }
    assert_eq!(
        forger.refusal(&forger.text(&forger.header, sign)),
        Refusal::Signature,
        "the name of a known key"
    );
    for key in [
        json!({ "jwk": { "kty": "OKP", "crv": "Ed25519", "x": own } }),
        json!({ "jku": "https://attacker.example/keys" }),
        json!({ "x5u": "https://attacker.example/chain" }),
        json!({ "x5c": ["AAAA"] }),
        json!({ "crit": ["exp"] }),
    ] {
        let token = forger.text(&forger.with(&key), sign);
        assert_eq!(forger.refusal(&token), Refusal::Malformed, "{key}");
    }
}

#[tokio::test]
async fn another_type_is_refused() {
    let forger = Forger::new().await;
    for typ in [json!("JWT"), json!("logout+jwt"), json!("application/jwt"), json!(""), Value::Null] {
        let token = forger.text(&forger.with(&json!({ "typ": typ })), |_| vec![0; 64]);
        assert_eq!(forger.refusal(&token), Refusal::Type, "{typ}");
    }
}

#[tokio::test]
async fn changed_claims_are_refused() {
    let mut forger = Forger::new().await;
    let signature = forger.access.reveal().rsplit('.').next().unwrap().to_owned();
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    for (claim, value) in [
        ("tid", json!("ten_00000000000000000000000000")),
        ("sub", json!("prn_00000000000000000000000000")),
        ("exp", json!(9_999_999_999_u64)),
        ("gen", json!(7)),
    ] {
        let claims = forger.claims.clone();
        forger.claims[claim] = value;
        let token = forger.text(&forger.header, |_| signature.clone());
        assert_eq!(forger.refusal(&token), Refusal::Signature, "{claim}");
        forger.claims = claims;
    }
    let empty = forger.text(&forger.header, |_| vec![]);
    assert_eq!(forger.refusal(&empty), Refusal::Signature);
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let forger = Forger::new().await;
    let good = forger.access.reveal();
    let large = format!("{good}{}", "A".repeat(8_193 - good.len()));
    assert_eq!(forger.refusal(&large), Refusal::TooLarge);
    let deep =
        format!("{}.{}.AAAA", encode(&forger.header), BASE64URL_NOPAD.encode("[".repeat(4_000).as_bytes()));
    assert_eq!(forger.refusal(&deep), Refusal::Signature);
    for bad in ["", ".", "..", "a.b.c", "....", "e30.e30.", " ", "\u{0}", "Bearer x", &good[1..], "ä.ö.ü"]
    {
        assert_eq!(forger.refusal(bad), Refusal::Malformed, "{bad:?}");
    }
    for padded in [format!("{good} "), format!("{good}="), format!(" {good}"), format!("{good}.")] {
        assert!(forger.tokens.verify(&padded, START).is_err(), "{padded:?}");
    }
    forger.tokens.verify(good, START).unwrap();
}

#[test]
fn whatever_is_changed_in_a_token_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let forger = runtime.block_on(Forger::new());
    let good = forger.access.reveal().to_owned();
    proptest!(ProptestConfig::with_cases(2_000), |(at in 0..good.len(), to in "[A-Za-z0-9_.-]", text in ".{0,200}")| {
        let mut changed = good.clone();
        changed.replace_range(at..=at, &to);
        let verified = forger.tokens.verify(&changed, START);
        prop_assert_eq!(verified.is_ok(), changed == good);
        prop_assert!(forger.tokens.verify(&text, START).is_err());
    });
}

//! What `make fuzz` feeds with tokens that nobody issued.

use std::{str::FromStr, sync::OnceLock};

use aesp_proto::{TenantId, Timestamp, TokenId};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};

use crate::{
    ApiKey, Credential, CredentialKind, RefreshToken, Secret, TokenOptions, Tokens,
    key_set::KeySet,
    rows::{PrivateKey, SigningKeyRow, SigningKeyState},
};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Reads the text as credentials of both kinds, and writes the bytes as credentials.
///
/// # Panics
/// If a credential has a second text.
pub fn credential(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        one_text::<crate::kind::ApiKey>(text);
        one_text::<crate::kind::RefreshToken>(text);
    }
    let mut payload = [0; 64];
    let length = bytes.len().min(64);
    payload[..length].copy_from_slice(&bytes[..length]);
    let [tenant, id] = [&payload[..16], &payload[16..32]];
    let (tenant, id) = (TenantId::from_slice(tenant), TokenId::from_slice(id));
    let (tenant, id) = (tenant.expect("16 bytes"), id.expect("16 bytes"));
    let secret: [u8; 32] = payload[32..].try_into().expect("32 bytes");
    let text = ApiKey::new(tenant, id, Secret::from_bytes(secret)).reveal();
    let read = ApiKey::from_str(&text).expect("its own text");
    assert!(read.tenant() == tenant && read.id() == id && *read.secret().expose() == secret);
    RefreshToken::from_str(&text).expect_err("one kind is not the other");
}

fn one_text<K: CredentialKind>(text: &str) {
    if let Ok(credential) = Credential::<K>::from_str(text) {
        assert_eq!(credential.reveal().as_str(), text);
    }
}

/// Verifies the text as it is, and, as a header and claims with a line feed between them, under a true signature, so that
/// what lies behind the signature is reached.
///
/// # Panics
/// If a token of no true signature, or one that should have been refused, is believed.
pub fn access_token(bytes: &[u8]) {
    let (tokens, key) = world();
    let Ok(text) = str::from_utf8(bytes) else { return };
    if tokens.verify(text, NOW).is_ok() {
        let (message, signature) = text.rsplit_once('.').expect("three parts");
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).expect("canonical");
        assert_eq!(key.sign(message.as_bytes()).as_ref(), signature, "nobody else signs");
    }
    let Some((header, claims)) = text.split_once('\n') else { return };
    let part = |json: &str| BASE64URL_NOPAD.encode(json.as_bytes());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = BASE64URL_NOPAD.encode(key.sign(message.as_bytes()).as_ref());
    let token = format!("{message}.{signature}");
    for now in [NOW, Timestamp(0), Timestamp(i64::MAX)] {
        if let Ok(believed) = tokens.verify(&token, now) {
            let claims: serde_json::Value = serde_json::from_str(claims).expect("claims are JSON");
            assert_eq!(claims["iss"], "aesp");
            assert!(claims["aud"] == "aesp");
            assert!(header.contains("at+jwt") || header.to_ascii_lowercase().contains("jwt"));
            assert_eq!(believed.check_time(now), Ok(()), "within its time");
        }
    }
}

/// Tokens under a key that never changes, so that the corpus can hold a true one.
fn world() -> &'static (Tokens, Ed25519KeyPair) {
    static WORLD: OnceLock<(Tokens, Ed25519KeyPair)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes");
        let private = key.to_pkcs8().expect("a key has its form");
        let row = SigningKeyRow {
            state: SigningKeyState::Active,
            created_at: NOW,
            public: BASE64URL_NOPAD.encode(key.public_key().as_ref()),
            private: Some(PrivateKey(BASE64.encode(private.as_ref()))),
        };
        let keys = KeySet::new(vec![(TokenId::from_bytes([1; 16]), row)]).expect("a good key");
        let options = TokenOptions { remembered: 16, ..TokenOptions::default() };
        (Tokens::with_keys(keys, options), key)
    })
}

#[cfg(test)]
mod tests {
    type Target = (&'static str, fn(&[u8]));

    /// The committed inputs, and everything that ever broke.
    #[test]
    fn the_corpora_do_no_harm() {
        let targets: [Target; 2] = [("credential", super::credential), ("access_token", super::access_token)];
        for (name, target) in targets {
            let corpus = std::fs::read_dir(format!("../../fuzz/corpus/{name}")).unwrap();
            let inputs: Vec<_> = corpus.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
            assert!(!inputs.is_empty());
            inputs.iter().for_each(|input| target(input));
        }
    }
}

use std::collections::HashMap;

use aesp_proto::{Timestamp, TokenId};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, errors::ErrorKind,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    Error, Refusal, TokenOptions,
    claims::LEEWAY,
    rows::{SigningKeyRow, SigningKeyState},
};

/// What a token is for: its media type without "application/". One kind is never taken for another (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An access token (RFC 9068 §2.1).
    Access,
    /// One node's word to another about a client's certificate.
    Voucher,
}

impl Purpose {
    fn media_type(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::Voucher => "aesp-voucher+jwt",
        }
    }
}

/// The signing keys as a node holds them between two reloads.
pub(crate) struct KeySet {
    active: Option<(TokenId, EncodingKey)>,
    verifying: HashMap<TokenId, Verifying>,
    jwks: String,
}

struct Verifying {
    key: DecodingKey,
    until: Option<Timestamp>,
}

impl KeySet {
    /// Reads the rows of the store.
    pub(crate) fn new(rows: Vec<(TokenId, SigningKeyRow)>) -> Result<Self, Error> {
        let mut set = Self { active: None, verifying: HashMap::new(), jwks: String::new() };
        let mut published = Vec::new();
        for (id, row) in rows {
            let until = match row.state {
                SigningKeyState::Active => None,
                SigningKeyState::VerifyingUntil(until) => Some(until),
                SigningKeyState::Retired => continue,
            };
            let key = DecodingKey::from_ed_components(&row.public)
                .map_err(|_| Error::Cryptography("public key in the store"))?;
            set.verifying.insert(id, Verifying { key, until });
            published.push(json!({
                "kty": "OKP", "crv": "Ed25519", "x": row.public, "kid": id, "alg": "EdDSA", "use": "sig",
            }));
            if row.state == SigningKeyState::Active {
                set.active = Some((id, signing_key(&row)?));
            }
        }
        set.jwks = json!({ "keys": published }).to_string();
        Ok(set)
    }

    pub(crate) fn jwks(&self) -> &str {
        &self.jwks
    }

    pub(crate) fn sign(&self, purpose: Purpose, claims: &impl Serialize) -> Result<Zeroizing<String>, Error> {
        let (id, key) = self.active.as_ref().ok_or(Error::NoSigningKey)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(purpose.media_type().into());
        header.kid = Some(id.to_string());
        let token = encode(&header, claims, key).map_err(|_| Error::Cryptography("signature"))?;
        Ok(Zeroizing::new(token))
    }

    /// Verifies everything about a token but its time and its revocation.
    pub(crate) fn verify<C: DeserializeOwned + Clone>(
        &self,
        purpose: Purpose,
        token: &str,
        options: &TokenOptions,
        now: Timestamp,
    ) -> Result<C, Refusal> {
        let header = decode_header(token).map_err(|error| match error.kind() {
            // The library names the algorithms that it knows; "none" and the like are not among them.
            ErrorKind::Json(json) if json.to_string().contains("variant") => Refusal::Algorithm,
            _ => Refusal::Malformed,
        })?;
        if header.alg != Algorithm::EdDSA {
            return Err(Refusal::Algorithm);
        }
        if !header.typ.as_deref().is_some_and(|typ| is_for(purpose, typ)) {
            return Err(Refusal::Type);
        }
        // Nothing critical is understood, and a key never comes from the token itself.
        if header.crit.is_some()
            || header.jwk.is_some()
            || header.jku.is_some()
            || header.x5u.is_some()
            || header.x5c.is_some()
        {
            return Err(Refusal::Malformed);
        }
        let id = header.kid.as_deref().and_then(|kid| kid.parse::<TokenId>().ok());
        let key = id.and_then(|id| self.verifying.get(&id)).ok_or(Refusal::UnknownKey)?;
        if key.until.is_some_and(|until| now >= until.plus(LEEWAY)) {
            return Err(Refusal::UnknownKey);
        }
        let decoded = decode::<C>(token, &key.key, &validation(options));
        decoded.map(|data| data.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Refusal::Signature,
            ErrorKind::InvalidAlgorithm => Refusal::Algorithm,
            ErrorKind::InvalidIssuer => Refusal::Issuer,
            ErrorKind::InvalidAudience => Refusal::Audience,
            _ => Refusal::Malformed,
        })
    }
}

/// The library checks algorithm, signature, issuer and audience; the time it would ask of the machine, so that is ours.
fn validation(options: &TokenOptions) -> Validation {
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(&[&options.issuer]);
    validation.set_audience(&[&options.audience]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    validation
}

fn is_for(purpose: Purpose, typ: &str) -> bool {
    let short =
        typ.get(..12).filter(|head| head.eq_ignore_ascii_case("application/")).map_or(typ, |_| &typ[12..]);
    short.eq_ignore_ascii_case(purpose.media_type())
}

fn signing_key(row: &SigningKeyRow) -> Result<EncodingKey, Error> {
    let damaged = || Error::Cryptography("private key in the store");
    let private = row.private.as_ref().ok_or_else(damaged)?;
    let pkcs8 = Zeroizing::new(BASE64.decode(private.0.as_bytes()).map_err(|_| damaged())?);
    let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| damaged())?;
    if BASE64URL_NOPAD.encode(pair.public_key().as_ref()) != row.public {
        return Err(damaged());
    }
    Ok(EncodingKey::from_ed_der(&pkcs8))
}

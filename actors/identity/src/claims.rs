use std::time::Duration;

use aesp_proto::{PrincipalId, TenantId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use crate::Refusal;

/// How far the clocks of the node that issued a token and of the one that verifies it may differ.
pub(crate) const LEEWAY: Duration = Duration::from_secs(5);

/// What a verified access token says. Whether its principal is still active, and the token not revoked, is for
/// [`Snapshot::check`](crate::Snapshot::check).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The token's own id (`jti`).
    pub token: TokenId,
    /// Whose it is (`sub`).
    pub principal: PrincipalId,
    /// The principal's tenant (`tid`).
    pub tenant: TenantId,
    /// When it was issued (`iat`), in whole seconds.
    pub issued_at: Timestamp,
    /// When it becomes valid (`nbf`), in whole seconds.
    pub not_before: Timestamp,
    /// When it ends (`exp`), in whole seconds.
    pub expires_at: Timestamp,
    /// The family of refresh tokens that it came with (`fam`).
    pub family: Option<TokenId>,
    /// The principal's generation when it was issued (`gen`), see [`Principal`](crate::Principal).
    pub generation: u64,
}

impl Claims {
    /// Checks that `now` lies within the token's time, give or take five seconds.
    ///
    /// # Errors
    /// [`Refusal::Expired`], [`Refusal::NotYetValid`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        if now >= self.expires_at.plus(LEEWAY) {
            return Err(Refusal::Expired);
        }
        if now.plus(LEEWAY) < self.not_before {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }
}

/// The claims as they travel.
///
/// Source: RFC 7519 §4.1, RFC 9068 §2.2.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WireClaims {
    pub(crate) iss: String,
    pub(crate) aud: String,
    pub(crate) sub: PrincipalId,
    /// The account is its own client.
    pub(crate) client_id: PrincipalId,
    pub(crate) tid: TenantId,
    pub(crate) jti: TokenId,
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fam: Option<TokenId>,
    #[serde(rename = "gen")]
    pub(crate) generation: u64,
}

impl WireClaims {
    pub(crate) fn new(issuer: &str, audience: &str, claims: &Claims) -> Self {
        Self {
            iss: issuer.to_owned(),
            aud: audience.to_owned(),
            sub: claims.principal,
            client_id: claims.principal,
            tid: claims.tenant,
            jti: claims.token,
            iat: to_seconds(claims.issued_at),
            nbf: to_seconds(claims.not_before),
            exp: to_seconds(claims.expires_at),
            fam: claims.family,
            generation: claims.generation,
        }
    }

    pub(crate) fn into_claims(self) -> Claims {
        Claims {
            token: self.jti,
            principal: self.sub,
            tenant: self.tid,
            issued_at: from_seconds(self.iat),
            not_before: from_seconds(self.nbf),
            expires_at: from_seconds(self.exp),
            family: self.fam,
            generation: self.generation,
        }
    }
}

/// Rounds down to the second, which is what a token can say.
pub(crate) fn whole_seconds(at: Timestamp) -> Timestamp {
    from_seconds(to_seconds(at))
}

pub(crate) fn to_seconds(at: Timestamp) -> u64 {
    at.since(Timestamp(0)).as_secs()
}

pub(crate) fn from_seconds(seconds: u64) -> Timestamp {
    Timestamp(0).plus(Duration::from_secs(seconds))
}

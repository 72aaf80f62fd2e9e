use std::time::Duration;

use aesp_proto::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    Refusal, TokenOptions,
    claims::{LEEWAY, from_seconds, to_seconds},
};

/// How long a node's word holds: longer than a call may wait for a new owner, no longer than that needs.
const LIFETIME: Duration = Duration::from_secs(60);

/// A node's word about the certificate of a client that is connected to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Voucher {
    iss: String,
    aud: String,
    /// The certificate's identity.
    sub: String,
    /// The node that saw it.
    gateway: Incarnation,
    nbf: u64,
    exp: u64,
}

impl Voucher {
    pub(crate) fn new(
        options: &TokenOptions,
        certificate: &str,
        gateway: Incarnation,
        now: Timestamp,
    ) -> Self {
        Self {
            iss: options.issuer.clone(),
            aud: options.audience.clone(),
            sub: certificate.to_owned(),
            gateway,
            nbf: to_seconds(now),
            exp: to_seconds(now.plus(LIFETIME)),
        }
    }

    /// Returns the certificate's identity, if the word is current and of the node that gave it.
    pub(crate) fn certificate(self, gateway: Incarnation, now: Timestamp) -> Result<String, Refusal> {
        if now >= from_seconds(self.exp).plus(LEEWAY) {
            return Err(Refusal::Expired);
        }
        if now.plus(LEEWAY) < from_seconds(self.nbf) {
            return Err(Refusal::NotYetValid);
        }
        if self.gateway != gateway {
            return Err(Refusal::Audience);
        }
        Ok(self.sub)
    }
}

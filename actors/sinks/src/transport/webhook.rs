use std::sync::Arc;

use aesp_outbound::{Cause, Failure, Http, sign_webhook};
use aesp_proto::v1::AuditEvent;
use async_trait::async_trait;
use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::{Means, Transport};
use crate::{Config, delivery::Receipt, format, parcel::Parcel};

/// POSTs `{"events":[…]}`, signed as the Standard Webhooks specification has it. The id is made of the events, so that it is the same when
/// the same batch is sent again.
pub(super) struct Webhook {
    http: Http,
    config: Config,
    means: Means,
}

impl Webhook {
    pub(super) fn new(config: &Config, means: Means) -> Result<Self, String> {
        Ok(Self { http: Http::new(&config.endpoint())?, config: config.clone(), means })
    }
}

#[async_trait]
impl Transport for Webhook {
    fn encode(&self, event: &AuditEvent) -> Bytes {
        format::json(event)
    }

    async fn deliver(&self, parcels: &[Arc<Parcel>]) -> Result<Receipt, Failure> {
        let parts: Vec<&[u8]> = parcels.iter().map(|parcel| parcel.bytes.as_ref()).collect();
        let body = [b"{\"events\":[", parts.join(&b","[..]).as_slice(), b"]}"].concat();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let id = format!("aesp_{}", HEXLOWER.encode(&digest.as_ref()[..16]));
        let seconds = self.means.clock.now().0.div_euclid(1_000);
        let headers = sign_webhook(self.means.secret.needed().await?.expose(), &id, seconds, &body)?;
        let url = self
            .config
            .url()
            .ok_or_else(|| Failure::new(Cause::Refused, "target is no address that may be used"))?;
        self.http.post(url, headers, body.into()).await?.success()?;
        Ok(Receipt::all(parcels.len()))
    }
}

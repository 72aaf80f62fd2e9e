use std::pin::Pin;

use aesp_proto::{
    Error, ErrorCode,
    v1::{HostFrame, RuntimeFrame, runtime_service_server},
};
use aesp_runtime::PeerIdentity;
use futures::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{Context, context::source};
use crate::tls::PeerInfo;

/// The stream that Runtimes dial in on.
pub(crate) struct Runtime(pub(crate) Context);

type Frames = Pin<Box<dyn Stream<Item = Result<HostFrame, Status>> + Send>>;

#[tonic::async_trait]
impl runtime_service_server::RuntimeService for Runtime {
    type ConnectStream = Frames;

    async fn connect(&self, request: Request<Streaming<RuntimeFrame>>) -> Result<Response<Frames>, Status> {
        let peer = request.extensions().get::<PeerInfo>().and_then(|peer| peer.identity.clone());
        let identity =
            peer.ok_or_else(|| Error::new(ErrorCode::CertificateInvalid, "no client certificate"))?;
        let source = source(&request);
        let registrations = self.0.views.registrations();
        if !registrations.knows_identity(&identity.identity) {
            let error =
                Error::new(ErrorCode::CertificateInvalid, "the certificate is registered for no Runtime")
                    .remedy("have an administrator register it: aesp runtime register");
            return Err(self.0.authenticator.refused(error, &source, "runtime.connect").into());
        }
        // The connection looks its tenants up in the views; they must be there before it announces itself.
        for tenant in registrations.tenants_of(&identity.identity) {
            self.0.views.get(tenant).await.map_err(Error::from)?;
        }
        let peer = PeerIdentity { identities: vec![identity.identity.clone()], address: source.ip };
        let frames = self.0.runtimes.connect(peer, request.into_inner()).await.map_err(Error::from)?;
        Ok(Response::new(Box::pin(frames)))
    }
}

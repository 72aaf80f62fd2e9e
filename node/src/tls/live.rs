use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use super::Material;

/// The material that new handshakes use; replaced when the files change.
pub(crate) struct Live(ArcSwap<Material>);

impl Live {
    pub(crate) fn new(material: Material) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(material)))
    }

    pub(super) fn load(&self) -> Arc<Material> {
        self.0.load_full()
    }

    pub(super) fn store(&self, material: Material) -> Arc<Material> {
        let material = Arc::new(material);
        self.0.store(material.clone());
        material
    }
}

/// Which of the two listeners a handshake is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC, with client certificates.
    Grpc,
    /// HTTPS, without.
    Https,
}

impl Protocol {
    pub(super) fn config(self, material: &Material) -> Arc<ServerConfig> {
        match self {
            Self::Grpc => material.grpc.clone(),
            Self::Https => material.https.clone(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Https => "https",
        }
    }
}

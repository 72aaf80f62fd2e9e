use std::{path::Path, sync::Arc};

use aesp_cluster::peer;
use aesp_proto::Clock;
use rustls::crypto::aws_lc_rs;

use super::{Error, PeerIdentity, clock::TlsClock, material, pem};
use crate::config;

/// Reads what links between nodes prove and ask for.
///
/// # Errors
/// [`Error`], which names the file.
pub(crate) fn peers(files: &config::Tls, clock: &Arc<dyn Clock>) -> Result<peer::Tls, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = pem::certificates(&files.certificate)?;
    let key = pem::key(&files.key)?;
    let verifier = material::verifier(files, &provider)?;
    peer::Tls::new(chain, key, verifier, Arc::new(TlsClock(Arc::clone(clock)))).map_err(|source| {
        Error::Pair { certificate: files.certificate.clone(), key: files.key.clone(), source }
    })
}

/// Checks that a certificate names the node.
///
/// # Errors
/// [`Error::OtherNode`], or that the file can't be read.
pub(crate) fn names(certificate: &Path, identity: &str, node: &str) -> Result<(), Error> {
    let chain = pem::certificates(certificate)?;
    let named = chain.first().and_then(|end_entity| PeerIdentity::parse(end_entity).ok());
    match named {
        Some(named) if named.identity == identity => Ok(()),
        named => Err(Error::OtherNode {
            certificate: certificate.into(),
            found: named.map_or_else(|| "nobody".into(), |named| named.identity),
            identity: identity.into(),
            node: node.into(),
        }),
    }
}

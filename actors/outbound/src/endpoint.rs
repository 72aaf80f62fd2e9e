use std::{net::IpAddr, path::PathBuf, time::Duration};

use reqwest::Url;

/// One of the others, as the operator configured it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What the operator calls it, for the log.
    pub name: String,
    /// Its address, where it speaks HTTP; checked by [`url`].
    pub target: String,
    /// The authorities that its certificate must come from, PEM; absent for those of the system.
    pub ca: Option<PathBuf>,
    /// What this node shows as its client certificate, PEM, with the chain.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub certificate_key: Option<PathBuf>,
    /// How long it may take to answer.
    pub timeout: Duration,
}

/// Returns the address of a target, if it is one that may be used: `https`, or `http` on this machine alone, without user and password.
#[must_use]
pub fn url(target: &str) -> Option<Url> {
    let url = Url::parse(target).ok()?;
    let host = url.host_str()?;
    let host = host.trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|host| host.is_loopback());
    let spoken = url.scheme() == "https" || (url.scheme() == "http" && local);
    (spoken && url.username().is_empty() && url.password().is_none()).then_some(url)
}

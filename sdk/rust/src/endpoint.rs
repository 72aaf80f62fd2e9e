use std::{fmt, str::FromStr};

use aesp_proto::{Error, ErrorCode};
use http::Uri;
use rustls_pki_types::ServerName;

const DEFAULT_PORT: u16 = 9443;

/// Where a Host node listens: `https://host:port` or `host:port`, port 9443 when left out. There is no plaintext mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// Returns the host without brackets, and the port.
    pub(crate) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Returns the name that the node's certificate must carry.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, Error> {
        ServerName::try_from(self.host.clone()).map_err(|e| invalid(&self.host).because(e))
    }

    /// Returns `scheme://host:port`.
    pub(crate) fn uri(&self, scheme: &str) -> Result<Uri, Error> {
        format!("{scheme}://{}", self.authority())
            .parse()
            .map_err(|e: http::uri::InvalidUri| invalid(&self.host).because(e))
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let rest = match text.split_once("://") {
            None => text,
            Some(("https", rest)) => rest,
            Some((scheme, _)) => {
                return Err(invalid(text).remedy(format!("write https:// instead of {scheme}://")));
            }
        };
        let uri: Uri = format!("https://{}", rest.trim_end_matches('/'))
            .parse()
            .map_err(|e: http::uri::InvalidUri| invalid(text).because(e))?;
        let authority = uri.authority().ok_or_else(|| invalid(text))?;
        if !matches!(uri.path(), "" | "/") || authority.as_str().contains('@') {
            return Err(invalid(text));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(invalid(text));
        }
        Ok(Self { host, port: authority.port_u16().unwrap_or(DEFAULT_PORT) })
    }
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorCode::ConfigurationError, format!("`{text}` is not an endpoint"))
        .remedy("write it as https://host:port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_forms_are_understood() {
        for (text, shown) in [
            ("localhost", "https://localhost:9443"),
            ("https://node-1.example:7000/", "https://node-1.example:7000"),
            ("[::1]:9443", "https://[::1]:9443"),
            ("127.0.0.1:1", "https://127.0.0.1:1"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), shown);
            endpoint.server_name().expect("is a name or an address");
        }
    }

    #[test]
    fn plaintext_and_nonsense_are_refused() {
        for text in ["http://localhost:9443", "", "https://", "https://a/b", "user@host:1", "a b"] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert_eq!(error.code(), ErrorCode::ConfigurationError);
            assert!(error.remediation().is_some());
        }
    }
}

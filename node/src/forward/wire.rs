use std::time::Duration;

use aesp_proto::{
    Error, Incarnation,
    v1::{
        ForwardedElsewhere, ForwardedHead, ForwardedHeader, ForwardedHeaders, ForwardedPart,
        forwarded_part::Part,
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use prost::Message;

pub(super) const STATUS_HEADER: &str = "grpc-status";
const TIMEOUT_HEADER: &str = "grpc-timeout";
/// `UNAVAILABLE` of the gRPC status codes.
const UNAVAILABLE: &str = "14";

/// Returns the part that travels.
pub(super) fn encode(part: Part) -> Bytes {
    ForwardedPart { part: Some(part) }.encode_to_vec().into()
}

/// Reads a part.
pub(super) fn decode(payload: Bytes) -> Result<Part, Error> {
    let part = ForwardedPart::decode(payload).map_err(Error::internal)?;
    part.part.ok_or_else(|| Error::internal("a part of a forwarded answer is empty"))
}

pub(super) fn head(status: StatusCode, headers: &HeaderMap, served: Duration) -> Part {
    Part::Head(ForwardedHead {
        status: u32::from(status.as_u16()),
        headers: Some(headers_to_wire(headers)),
        served_us: u64::try_from(served.as_micros()).unwrap_or(u64::MAX),
    })
}

pub(super) fn trailers(trailers: &HeaderMap) -> Part {
    Part::Trailers(headers_to_wire(trailers))
}

pub(super) fn elsewhere(owner: Option<Incarnation>) -> Part {
    Part::Elsewhere(ForwardedElsewhere { owner: owner.map_or(0, |owner| owner.0) })
}

fn headers_to_wire(headers: &HeaderMap) -> ForwardedHeaders {
    let one = |(name, value): (&HeaderName, &HeaderValue)| ForwardedHeader {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec(),
    };
    ForwardedHeaders { headers: headers.iter().map(one).collect() }
}

/// Reads headers; those of the connection between client and node are left out.
pub(super) fn headers_from_wire(wire: Option<ForwardedHeaders>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for ForwardedHeader { name, value } in wire.unwrap_or_default().headers {
        let pair = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value));
        if let (Ok(name), Ok(value)) = pair
            && name != header::TRANSFER_ENCODING
            && name != header::CONNECTION
        {
            headers.append(name, value);
        }
    }
    headers
}

/// Tells whether a head or trailers say that the service was not available.
pub(super) fn unavailable(headers: &HeaderMap) -> bool {
    headers.get(STATUS_HEADER).is_some_and(|status| status == UNAVAILABLE)
}

/// Returns how much time a client gives its request, if it says so.
///
/// Source: gRPC over HTTP/2, `grpc-timeout`.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT_HEADER)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_survives_the_link() {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.append("grpc-status-details-bin", HeaderValue::from_static("AAEC"));
        headers.insert("connection", HeaderValue::from_static("close"));
        let sent = encode(head(StatusCode::OK, &headers, Duration::from_millis(3)));
        let Part::Head(read) = decode(sent).unwrap() else { panic!("another part") };
        assert_eq!((read.status, read.served_us), (200, 3_000));
        headers.remove("connection");
        assert_eq!(headers_from_wire(read.headers), headers);
        assert!(decode(Bytes::from_static(&[0xff, 0xff])).is_err());
        assert!(decode(Bytes::new()).is_err());
    }

    #[test]
    fn a_clients_time_is_read_as_grpc_writes_it() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, HeaderValue::from_static(text));
            timeout(&headers)
        };
        assert_eq!(read("1500m"), Some(Duration::from_millis(1_500)));
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        for nonsense in ["", "5", "m", "123456789S", "1x", "-1S"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}

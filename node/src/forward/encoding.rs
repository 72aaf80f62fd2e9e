use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http::HeaderMap;

use super::about::{PREFIX_BYTES, prefix};

const ENCODING: &str = "grpc-encoding";
const COMPRESSED: u8 = 1;

/// A message that is larger, once it is decoded, than a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

/// Returns a unary request's body with its message decoded, so that it can be read and passed on. What is encoded otherwise than
/// with gzip, or damaged, stays as it is: whoever answers says what is wrong with it.
///
/// # Errors
/// [`TooLarge`] if the message has more than `most` bytes; no more than that are decoded.
///
/// Source: gRPC over HTTP/2, `Compressed-Flag` and `Message-Encoding`.
pub(super) fn plain(headers: &HeaderMap, body: Bytes, most: usize) -> Result<Bytes, TooLarge> {
    let gzip = headers.get(ENCODING).is_some_and(|encoding| encoding == "gzip");
    let Some((COMPRESSED, length)) = prefix(&body).filter(|_| gzip) else { return Ok(body) };
    let encoded = &body[PREFIX_BYTES..];
    if encoded.len() != length {
        return Ok(body);
    }
    let mut message = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    if GzDecoder::new(encoded).take(limit).read_to_end(&mut message).is_err() {
        return Ok(body);
    }
    let length = u32::try_from(message.len()).map_err(|_| TooLarge)?;
    if message.len() > most {
        return Err(TooLarge);
    }
    let mut plain = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    plain.put_u8(0);
    plain.put_u32(length);
    plain.put_slice(&message);
    Ok(plain.freeze())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn framed(flag: u8, message: &[u8]) -> Bytes {
        let mut body = vec![flag];
        body.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend_from_slice(message);
        body.into()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(with: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(ENCODING), HeaderValue::from_static(with))])
    }

    #[test]
    fn a_message_is_decoded_if_it_says_so_and_fits() {
        let message = vec![b'x'; 10_000];
        let body = framed(1, &gzip(&message));
        assert_eq!(plain(&encoded("gzip"), body.clone(), 10_000), Ok(framed(0, &message)));
        assert_eq!(plain(&encoded("gzip"), body.clone(), 9_999), Err(TooLarge));
        assert_eq!(plain(&encoded("gzip"), framed(1, &gzip(b"")), 10), Ok(framed(0, b"")));
        // Encoded or not is said of each message.
        assert_eq!(plain(&encoded("gzip"), framed(0, b"plain"), 10), Ok(framed(0, b"plain")));
    }

    #[test]
    fn no_more_is_decoded_than_fits() {
        let mut bomb = gzip(&vec![0; 10_000_000]);
        // Whoever decodes all of it finds that it is damaged.
        bomb.truncate(bomb.len() - 20);
        assert_eq!(plain(&encoded("gzip"), framed(1, &bomb), 1_000), Err(TooLarge));
    }

    #[test]
    fn what_is_damaged_or_encoded_otherwise_stays_as_it_is() {
        let good = framed(1, &gzip(b"message"));
        let mut broken = gzip(b"message");
        broken.truncate(8);
        for (headers, body) in [
            (HeaderMap::new(), good.clone()),
            (encoded("deflate"), good.clone()),
            (encoded("gzip"), good.slice(..good.len() - 1)),
            (encoded("gzip"), framed(1, &broken)),
            (encoded("gzip"), framed(1, b"no gzip")),
            (encoded("gzip"), framed(2, b"")),
            (encoded("gzip"), Bytes::new()),
        ] {
            assert_eq!(plain(&headers, body.clone(), 1_000), Ok(body));
        }
    }
}

use std::io::{self, Read, Write};

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;

use super::Error;

pub(super) const MAGIC: &[u8; 8] = b"aespxprt";
/// The format of an export of everything.
pub(super) const FORMAT: u16 = 1;
/// That of an export of one tenant, and the newest that this release knows.
pub(super) const TENANT_FORMAT: u16 = 2;

pub(super) const HEADER: u8 = 1;
pub(super) const ROWS: u8 = 2;
pub(super) const MANIFEST: u8 = 3;

/// Rows are gathered into frames of about that.
pub(super) const FRAME_BYTES: usize = 1 << 20;
/// No frame is longer: one row more than that.
const LONGEST_FRAME_BYTES: usize = 4 << 20;
/// Key and value of a row come after so many bytes of lengths.
const LENGTHS_BYTES: usize = 6;

/// Writes frames, and hashes them once the key is known.
pub(super) struct Frames<'a> {
    out: &'a mut (dyn Write + Send),
    mac: hmac::Context,
}

impl<'a> Frames<'a> {
    pub(super) fn begin(out: &'a mut (dyn Write + Send), key: &hmac::Key, format: u16) -> io::Result<Self> {
        let mut frames = Self { out, mac: hmac::Context::with_key(key) };
        frames.put(MAGIC)?;
        frames.put(&format.to_be_bytes())?;
        Ok(frames)
    }

    pub(super) fn frame(&mut self, tag: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        self.put(&[tag])?;
        self.put(&length.to_be_bytes())?;
        self.put(payload)
    }

    /// Returns the HMAC of what was written until now.
    pub(super) fn mac(&self) -> String {
        HEXLOWER.encode(self.mac.clone().sign().as_ref())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.mac.update(bytes);
        self.out.write_all(bytes)
    }
}

/// Reads frames, and keeps what was read until the key of the HMAC is known.
pub(super) struct Reader<R> {
    input: R,
    at: u64,
    early: Vec<u8>,
    mac: Option<hmac::Context>,
}

impl<R: Read> Reader<R> {
    /// Reads what every export begins with.
    pub(super) fn begin(input: R) -> Result<Self, Error> {
        let mut reader = Self { input, at: 0, early: Vec::new(), mac: None };
        let mut magic = [0; MAGIC.len()];
        reader.fill(&mut magic).map_err(|error| match error {
            Error::Truncated(_) => Error::NotAnExport,
            error => error,
        })?;
        if &magic != MAGIC {
            return Err(Error::NotAnExport);
        }
        let mut format = [0; 2];
        reader.fill(&mut format)?;
        let found = u16::from_be_bytes(format);
        if found > TENANT_FORMAT {
            return Err(Error::NewerFormat { found, known: TENANT_FORMAT });
        }
        reader.early = [&magic[..], &format[..]].concat();
        Ok(reader)
    }

    /// Returns the next frame's tag and payload.
    pub(super) fn next(&mut self) -> Result<(u8, Vec<u8>), Error> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > LONGEST_FRAME_BYTES {
            return Err(Error::Altered("a frame is longer than any can be"));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        // The manifest holds the HMAC of everything before it.
        if head[0] != MANIFEST {
            self.hash(&head);
            self.hash(&payload);
        }
        Ok((head[0], payload))
    }

    /// Says what the HMAC is made with.
    pub(super) fn keyed(&mut self, key: &hmac::Key) {
        let mut mac = hmac::Context::with_key(key);
        mac.update(&std::mem::take(&mut self.early));
        self.mac = Some(mac);
    }

    /// Returns the HMAC of what was read until now.
    pub(super) fn mac(&self) -> String {
        self.mac.as_ref().map(|mac| HEXLOWER.encode(mac.clone().sign().as_ref())).unwrap_or_default()
    }

    /// Makes sure that nothing follows.
    pub(super) fn end(mut self) -> Result<(), Error> {
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Error::Altered("something follows the manifest")),
        }
    }

    fn hash(&mut self, bytes: &[u8]) {
        match &mut self.mac {
            Some(mac) => mac.update(bytes),
            None => self.early.extend_from_slice(bytes),
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.input.read_exact(out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::Truncated(self.at),
            _ => Error::File(error),
        })?;
        self.at += out.len() as u64;
        Ok(())
    }
}

/// Adds a row to a frame.
pub(super) fn put_row(frame: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let key_length = u16::try_from(key.len()).expect("a key has 500 bytes at most");
    let value_length = u32::try_from(value.len()).expect("a value has 100,000 bytes at most");
    frame.reserve(LENGTHS_BYTES + key.len() + value.len());
    frame.extend_from_slice(&key_length.to_be_bytes());
    frame.extend_from_slice(key);
    frame.extend_from_slice(&value_length.to_be_bytes());
    frame.extend_from_slice(value);
}

/// A key and its value.
pub(super) type Row<'f> = (&'f [u8], &'f [u8]);

/// Takes the next row out of a frame; nothing at its end.
pub(super) fn take_row<'f>(frame: &mut &'f [u8]) -> Result<Option<Row<'f>>, Error> {
    const BAD: Error = Error::Altered("a row is none");
    if frame.is_empty() {
        return Ok(None);
    }
    let (length, rest) = frame.split_first_chunk::<2>().ok_or(BAD)?;
    let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or(BAD)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(BAD)?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(BAD)?;
    *frame = rest;
    Ok(Some((key, value)))
}

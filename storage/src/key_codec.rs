use aesp_proto::{Epoch, Id, Incarnation, Revision, ShardId, Timestamp};

/// Builds a row key whose byte order is the order of its parts.
#[derive(Debug, Default)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// Starts an empty key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_prefix(prefix: Vec<u8>) -> Self {
        Self(prefix)
    }

    /// Appends a part of fixed length as it is.
    pub fn bytes(&mut self, part: &[u8]) -> &mut Self {
        self.0.extend_from_slice(part);
        self
    }

    /// Appends a part of any length, so that it sorts before what it is a prefix of: 00 becomes 00 FF, the end is 00 01.
    pub fn escaped(&mut self, part: &[u8]) -> &mut Self {
        for &byte in part {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(ESCAPED_ZERO);
            }
        }
        self.0.extend_from_slice(&[0, END]);
        self
    }

    /// Appends another key part.
    pub fn part(&mut self, part: &impl RowKey) -> &mut Self {
        part.write(self);
        self
    }

    /// Returns the key.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

const ESCAPED_ZERO: u8 = 0xFF;
const END: u8 = 0x01;

/// Takes a row key apart.
#[derive(Debug)]
pub struct KeyReader<'a>(&'a [u8]);

/// The bytes are not a key of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key ends too early.
    #[error("key ends too early")]
    Truncated,
    /// A zero byte is neither escaped nor the end.
    #[error("bad escape in key")]
    BadEscape,
    /// The key goes on after its last part.
    #[error("key has bytes after its last part")]
    Trailing,
    /// A text is not UTF-8, or a number is out of its range.
    #[error("bad value in key")]
    BadValue,
}

impl<'a> KeyReader<'a> {
    /// Starts at the first byte of `key`.
    #[must_use]
    pub fn new(key: &'a [u8]) -> Self {
        Self(key)
    }

    /// Reads a part of fixed length.
    ///
    /// # Errors
    /// [`KeyError::Truncated`] if fewer bytes are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], KeyError> {
        let (part, rest) = self.0.split_first_chunk().ok_or(KeyError::Truncated)?;
        self.0 = rest;
        Ok(*part)
    }

    /// Reads a part of any length.
    ///
    /// # Errors
    /// [`KeyError`] if it does not end, or not as [`KeyWriter::escaped`] ends it.
    pub fn escaped(&mut self) -> Result<Vec<u8>, KeyError> {
        let mut out = Vec::new();
        loop {
            let zero = self.0.iter().position(|&byte| byte == 0).ok_or(KeyError::Truncated)?;
            out.extend_from_slice(&self.0[..zero]);
            let mark = *self.0.get(zero + 1).ok_or(KeyError::Truncated)?;
            self.0 = &self.0[zero + 2..];
            match mark {
                ESCAPED_ZERO => out.push(0),
                END => return Ok(out),
                _ => return Err(KeyError::BadEscape),
            }
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`KeyError::Trailing`] if bytes are left.
    pub fn finish(self) -> Result<(), KeyError> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyError::Trailing) }
    }
}

/// A part of a row's key that sorts in its bytes as it sorts in Rust.
pub trait RowKey: Sized {
    /// Appends the part.
    fn write(&self, out: &mut KeyWriter);

    /// Reads the part back.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are not such a part.
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError>;

    /// Reads a whole key.
    ///
    /// # Errors
    /// [`KeyError`] if the bytes are not exactly such a key.
    fn decode(key: &[u8]) -> Result<Self, KeyError> {
        let mut reader = KeyReader::new(key);
        let out = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(out)
    }
}

/// Returns the bytes of a row key, for cursors and prefixes.
#[must_use]
pub fn encode(key: &impl RowKey) -> Vec<u8> {
    let mut writer = KeyWriter::new();
    key.write(&mut writer);
    writer.finish()
}

impl<K: 'static> RowKey for Id<K> {
    fn write(&self, out: &mut KeyWriter) {
        out.bytes(self.as_bytes());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        input.array().map(Self::from_bytes)
    }
}

impl<const N: usize> RowKey for [u8; N] {
    fn write(&self, out: &mut KeyWriter) {
        out.bytes(self);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        input.array()
    }
}

macro_rules! big_endian {
    ($($number:ty),*) => {$(
        impl RowKey for $number {
            fn write(&self, out: &mut KeyWriter) {
                out.bytes(&self.to_be_bytes());
            }
            fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                input.array().map(Self::from_be_bytes)
            }
        }
    )*};
}

// One body for every width.
big_endian!(u8, u16, u32, u64);

macro_rules! like_its_number {
    ($($name:ident),*) => {$(
        impl RowKey for $name {
            fn write(&self, out: &mut KeyWriter) {
                self.0.write(out);
            }
            fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
                RowKey::read(input).map(Self)
            }
        }
    )*};
}

// One body for every number with a name.
like_its_number!(Revision, Epoch, ShardId, Incarnation);

const SIGN: u64 = 1 << 63;

impl RowKey for Timestamp {
    fn write(&self, out: &mut KeyWriter) {
        // With the sign turned over, times before 1970 sort before the others.
        (self.0.cast_unsigned() ^ SIGN).write(out);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        u64::read(input).map(|bits| Self((bits ^ SIGN).cast_signed()))
    }
}

impl RowKey for String {
    fn write(&self, out: &mut KeyWriter) {
        out.escaped(self.as_bytes());
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Self::from_utf8(input.escaped()?).map_err(|_| KeyError::BadValue)
    }
}

impl RowKey for () {
    fn write(&self, _: &mut KeyWriter) {}
    fn read(_: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok(())
    }
}

impl<A: RowKey, B: RowKey> RowKey for (A, B) {
    fn write(&self, out: &mut KeyWriter) {
        self.0.write(out);
        self.1.write(out);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok((A::read(input)?, B::read(input)?))
    }
}

impl<A: RowKey, B: RowKey, C: RowKey> RowKey for (A, B, C) {
    fn write(&self, out: &mut KeyWriter) {
        self.0.write(out);
        self.1.write(out);
        self.2.write(out);
    }
    fn read(input: &mut KeyReader<'_>) -> Result<Self, KeyError> {
        Ok((A::read(input)?, B::read(input)?, C::read(input)?))
    }
}

#[cfg(test)]
mod tests;

use bytes::Bytes;
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest answer that is kept; of a larger one only the digest is.
const MAX_KEPT_BYTES: usize = 1 << 20;

/// What a call answered, as it is kept for repeats. The row around it is sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub enum Payload {
    /// The whole answer.
    Kept(Bytes),
    /// An answer above 1 MiB: it can be recognised, not repeated.
    Digest {
        /// The SHA-256.
        sha256: [u8; 32],
        /// How large it was.
        size_bytes: u64,
    },
}

impl Payload {
    /// Keeps the answer, or its digest if it is above 1 MiB.
    #[must_use]
    pub fn of(answer: Bytes) -> Self {
        if answer.len() <= MAX_KEPT_BYTES {
            return Self::Kept(answer);
        }
        let size_bytes = u64::try_from(answer.len()).unwrap_or(u64::MAX);
        Self::Digest { sha256: Sha256::digest(&answer).into(), size_bytes }
    }

    /// Returns the whole answer, if it was kept.
    #[must_use]
    pub fn kept(&self) -> Option<&Bytes> {
        match self {
            Self::Kept(answer) => Some(answer),
            Self::Digest { .. } => None,
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Kept(Bytes::new())
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Kept(String),
    Digest { sha256: String, size_bytes: u64 },
}

impl From<Payload> for Stored {
    fn from(payload: Payload) -> Self {
        match payload {
            Payload::Kept(answer) => Self::Kept(BASE64_NOPAD.encode(&answer)),
            Payload::Digest { sha256, size_bytes } => {
                Self::Digest { sha256: HEXLOWER.encode(&sha256), size_bytes }
            }
        }
    }
}

impl TryFrom<Stored> for Payload {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        match stored {
            Stored::Kept(text) => {
                let answer = BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| "not base 64")?;
                Ok(Self::Kept(answer.into()))
            }
            Stored::Digest { sha256, size_bytes } => {
                let bytes = HEXLOWER.decode(sha256.as_bytes()).map_err(|_| "not hexadecimal")?;
                let sha256 = bytes.try_into().map_err(|_| "not 32 bytes")?;
                Ok(Self::Digest { sha256, size_bytes })
            }
        }
    }
}

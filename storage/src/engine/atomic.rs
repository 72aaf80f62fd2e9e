/// A change that depends on the value there is, made at the commit, so that writers of one key don't refuse each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtomicOp {
    /// Adds to a little-endian 64-bit number, wrapping; nothing counts as 0.
    Add(i64),
    /// Keeps the larger of two unsigned little-endian 64-bit numbers; nothing counts as 0.
    Max(u64),
}

impl AtomicOp {
    /// Returns the new value. One that is not 8 bytes long is cut or filled up with zeros, as FoundationDB does it.
    #[must_use]
    pub fn apply(self, current: Option<&[u8]>) -> [u8; 8] {
        let mut word = [0; 8];
        let given = current.unwrap_or_default();
        let length = given.len().min(8);
        word[..length].copy_from_slice(&given[..length]);
        match self {
            Self::Add(delta) => i64::from_le_bytes(word).wrapping_add(delta).to_le_bytes(),
            Self::Max(other) => u64::from_le_bytes(word).max(other).to_le_bytes(),
        }
    }
}
